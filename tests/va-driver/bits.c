/* Bits of NAL units (ITU-T H.264, 7.2, 7.4.1.1 and 9.1). */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

static void byte(struct bits *bits, uint8_t value) {
    if (bits->length == bits->capacity) {
        size_t capacity = bits->capacity ? bits->capacity * 2 : 4096;
        uint8_t *bytes = realloc(bits->bytes, capacity);
        if (!bytes) {
            bits->failed = true;
            return;
        }
        bits->bytes = bytes;
        bits->capacity = capacity;
    }
    bits->bytes[bits->length++] = value;
}

void bits_put(struct bits *bits, unsigned count, uint32_t value) {
    while (count-- > 0) {
        bits->hold = bits->hold << 1 | (value >> count & 1);
        if (++bits->held == 8) {
            byte(bits, (uint8_t)bits->hold);
            bits->hold = bits->held = 0;
        }
    }
}

void bits_ue(struct bits *bits, uint32_t value) {
    unsigned length = 32 - (unsigned)__builtin_clz(value + 1);
    bits_put(bits, length - 1, 0);
    bits_put(bits, length, value + 1);
}

void bits_se(struct bits *bits, int32_t value) {
    bits_ue(bits, value > 0 ? 2 * (uint32_t)value - 1 : 2 * (uint32_t)-value);
}

void bits_align(struct bits *bits, unsigned bit) {
    while (bits->held) bits_put(bits, 1, bit);
}

void bits_bytes(struct bits *bits, const uint8_t *data, size_t size) {
    while (bits->capacity - bits->length < size) {
        size_t capacity = (bits->capacity + size) * 2;
        uint8_t *bytes = realloc(bits->bytes, capacity);
        if (!bytes) {
            bits->failed = true;
            return;
        }
        bits->bytes = bytes;
        bits->capacity = capacity;
    }
    memcpy(bits->bytes + bits->length, data, size);
    bits->length += size;
}

void bits_free(struct bits *bits) {
    free(bits->bytes);
    *bits = (struct bits){0};
}

bool bits_escape(const uint8_t *payload, size_t size, uint8_t *out, size_t *used, size_t room) {
    unsigned zeros = 0;
    for (size_t i = 0; i < size; i++) {
        if (*used + 2 > room) return false;
        if (zeros >= 2 && payload[i] <= 3) {
            out[(*used)++] = 3;
            zeros = 0;
        }
        out[(*used)++] = payload[i];
        zeros = payload[i] ? 0 : zeros + 1;
    }
    return true;
}

size_t bits_unescape(const uint8_t *in, size_t size, uint8_t *out) {
    size_t length = 0;
    unsigned zeros = 0;
    for (size_t i = 0; i < size; i++) {
        if (zeros >= 2 && in[i] == 3) {
            zeros = 0;
            continue;
        }
        out[length++] = in[i];
        zeros = in[i] ? 0 : zeros + 1;
    }
    return length;
}
