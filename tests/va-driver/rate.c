/* Rate control, as far as there is one: an HRD that fills with the rate and that every picture empties
 * (ITU-T H.264, C.1.1, with each frame's time as long as the frame rate says).
 *
 * In: what the caller tells of its rate. Out: for each macroblock, whether its samples fit. What is
 * intra by request comes first, then regions of interest, then the rest, by turns. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

/* Bytes of a macroblock as I_PCM: samples, its header, what aligns it, some emulation prevention. */
enum { PCM_BYTES = 390 };
/* Bits of one without samples in an I slice; in a P slice it is skipped, for next to nothing. */
enum { FLAT_BITS = 8 };

void rate_take(struct context *context, const struct buffer *buffer) {
    size_t size = (size_t)buffer->size * buffer->count;
    const uint8_t *data = buffer->data + sizeof(uint32_t);
    uint32_t type;
    memcpy(&type, buffer->data, sizeof type);
#define TAKE(what) if (size < sizeof type + sizeof what) return; memcpy(&what, data, sizeof what)
    if (type == VAEncMiscParameterTypeMaxFrameSize) {
        VAEncMiscParameterBufferMaxFrameSize most;
        TAKE(most);
        context->most_bits = most.max_frame_size;
    } else if (type == VAEncMiscParameterTypeRateControl) {
        VAEncMiscParameterRateControl rate;
        TAKE(rate);
        context->bits_per_second = rate.bits_per_second;
    } else if (type == VAEncMiscParameterTypeFrameRate) {
        VAEncMiscParameterFrameRate rate;
        TAKE(rate);
        uint32_t frames = rate.framerate & 0xffff, seconds = rate.framerate >> 16;
        context->frames_per_second = seconds > 1 ? frames / seconds : frames;
    } else if (type == VAEncMiscParameterTypeHRD) {
        VAEncMiscParameterHRD hrd;
        TAKE(hrd);
        /* Full once, as it begins: telling the size again brings no bits back. */
        if (!context->hrd_bits) context->credit = hrd.initial_buffer_fullness;
        context->hrd_bits = hrd.buffer_size;
    }
}

uint8_t *rate_flat(const struct driver *driver, struct context *context, const struct coding *c, bool cabac) {
    const struct mode *mode = &driver->mode;
    const struct job *job = &context->job;
    uint32_t columns = c->source->columns, all = columns * c->source->rows;
    bool obeyed = mode->capped ? context->most_bits : mode->paced && context->hrd_bits;
    if (!obeyed || cabac || (c->inter && !c->reference)) return NULL;
    int64_t bits = mode->capped ? context->most_bits : context->credit;
    bits -= c->inter ? 0 : all * FLAT_BITS;
    int64_t left = bits > 0 ? bits / 8 / PCM_BYTES : 0;
    uint8_t *flat = malloc(all);
    if (!flat) return NULL;
    memset(flat, 1, all);
    for (int pass = 0; pass < 3; pass++) {
        for (uint32_t i = 0; left > 0 && i < all; i++) {
            uint32_t at = (context->turn + i) % all, x = at % columns, y = at / columns;
            bool fresh = slice_refreshes(c, at), inside = false;
            for (unsigned r = 0; mode->roi && r < job->region_count && r < MAX_REGIONS; r++) {
                const VARectangle *part = &job->regions[r];
                inside |= (int)x * 16 + 16 > part->x && (int)x * 16 < part->x + part->width &&
                          (int)y * 16 + 16 > part->y && (int)y * 16 < part->y + part->height;
            }
            if (!flat[at] || pass != (fresh ? 0 : inside ? 1 : 2)) continue;
            if (c->inter && !fresh && slice_same(c->source, c->reference, x, y)) continue;
            flat[at] = 0;
            if (--left == 0 && pass == 2) context->turn = at + 1;
        }
    }
    return flat;
}

void rate_spend(struct context *context, uint32_t bits) {
    if (!context->hrd_bits) return;
    context->credit -= bits;
    context->credit += context->frames_per_second ? context->bits_per_second / context->frames_per_second : 0;
    if (context->credit > context->hrd_bits) context->credit = context->hrd_bits;
}
