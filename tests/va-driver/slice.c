/* slice_data(): each macroblock is skipped, I_PCM, or as good as the rate allows.
 *
 * In: the source and the reference as whole macroblocks. Out: bits, and the picture that a decoder
 * makes of them, sample by sample. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

/* QP of macroblocks without samples: deblocking leaves them alone (8.7.2.2). */
enum { FLAT_QP = 4 };

/* Copies a macroblock. */
void slice_keep(const struct surface *from, struct surface *to, uint32_t x, uint32_t y) {
    size_t row = from->columns * 16u, lumas = row * from->rows * 16u;
    for (uint32_t i = 0; i < 24; i++) {
        size_t at = i < 16 ? (y * 16u + i) * row + x * 16u : lumas + (y * 8u + i - 16) * row + x * 16u;
        memcpy(to->coded + at, from->coded + at, 16);
    }
}

bool slice_same(const struct surface *a, const struct surface *b, uint32_t x, uint32_t y) {
    size_t row = a->columns * 16u, lumas = row * a->rows * 16u;
    for (uint32_t i = 0; i < 24; i++) {
        size_t at = i < 16 ? (y * 16u + i) * row + x * 16u : lumas + (y * 8u + i - 16) * row + x * 16u;
        if (memcmp(a->coded + at, b->coded + at, 16) != 0) return false;
    }
    return true;
}

static void pcm(struct bits *bits, const struct surface *s, uint32_t x, uint32_t y) {
    size_t row = s->columns * 16u, lumas = row * s->rows * 16u;
    uint8_t samples[384];
    for (uint32_t i = 0; i < 16; i++) memcpy(samples + i * 16, s->coded + (y * 16u + i) * row + x * 16u, 16);
    for (uint32_t i = 0; i < 8; i++) {
        const uint8_t *line = s->coded + lumas + (y * 8u + i) * row + x * 16u;
        for (uint32_t j = 0; j < 8; j++) samples[256 + i * 8 + j] = line[j * 2], samples[320 + i * 8 + j] = line[j * 2 + 1];
    }
    bits_align(bits, 0);
    bits_bytes(bits, samples, sizeof samples);
}

/* Intra_16x16 prediction from the mean of what is left and above (8.3.3.3, 8.3.4), without residual. */
static void predict(struct surface *out, uint32_t x, uint32_t y, bool left, bool above) {
    size_t row = out->columns * 16u, lumas = row * out->rows * 16u;
    uint8_t *luma = out->coded + y * 16u * row + x * 16u;
    unsigned sum = 0;
    for (int i = 0; i < 16; i++) sum += (left ? luma[i * (long)row - 1] : 0) + (above ? luma[i - (long)row] : 0);
    uint8_t mean = (uint8_t)(left && above ? (sum + 16) >> 5 : left || above ? (sum + 8) >> 4 : 128);
    for (uint32_t i = 0; i < 16; i++) memset(luma + i * row, mean, 16);
    uint8_t *chroma = out->coded + lumas + y * 8u * row + x * 16u;
    for (int plane = 0; plane < 2; plane++) {
        uint8_t means[2][2];
        for (int v = 0; v < 2; v++) for (int h = 0; h < 2; h++) {
            unsigned l = 0, a = 0;
            for (int i = 0; i < 4; i++) {
                if (left) l += chroma[(v * 4 + i) * (long)row - 2 + plane];
                if (above) a += chroma[(h * 4 + i) * 2 + plane - (long)row];
            }
            bool use_left = left && !(above && h > v), use_above = above && !(left && v > h);
            means[v][h] = (uint8_t)(use_left && use_above ? (l + a + 4) >> 3 : use_left ? (l + 2) >> 2 : use_above ? (a + 2) >> 2 : 128);
        }
        for (uint32_t v = 0; v < 8; v++) for (uint32_t h = 0; h < 8; h++) chroma[v * row + h * 2 + (unsigned)plane] = means[v / 4][h / 4];
    }
}

bool slice_refreshes(const struct coding *c, uint32_t at) {
    const VAEncMiscParameterRIR *r = c->refresh;
    uint32_t columns = c->source->columns, begin = r->intra_insertion_location, end = begin + r->intra_insert_size;
    return (r->rir_flags.bits.enable_rir_column && at % columns >= begin && at % columns < end) ||
           (r->rir_flags.bits.enable_rir_row && at / columns >= begin && at / columns < end);
}

/* coeff_token for no coefficient at all, which depends on the neighbours' number (table 9-5). */
static void no_coefficients(struct bits *bits, const struct coding *c, uint32_t at, bool left, bool above) {
    unsigned a = left && c->raw[at - 1] ? 16 : 0, b = above && c->raw[at - c->source->columns] ? 16 : 0;
    unsigned n = left && above ? (a + b + 1) / 2 : a + b;
    if (n < 2) bits_put(bits, 1, 1);
    else if (n < 4) bits_put(bits, 2, 3);
    else if (n < 8) bits_put(bits, 4, 15);
    else bits_put(bits, 6, 3);
}

void slice_cavlc(struct bits *bits, struct coding *c) {
    uint32_t run = 0, columns = c->source->columns;
    int qp = c->qp;
    for (uint32_t at = c->first; at < c->first + c->count; at++) {
        uint32_t x = at % columns, y = at / columns;
        bool left = x > 0 && at > c->first, above = at >= c->first + columns, flat = c->flat && c->flat[at];
        if (c->inter && c->reference && !slice_refreshes(c, at) && (flat || slice_same(c->source, c->reference, x, y))) {
            slice_keep(c->reference, c->out, x, y);
            run++;
            continue;
        }
        if (c->inter) bits_ue(bits, run);
        run = 0;
        if (flat) {
            bits_ue(bits, c->inter ? 8 : 3); /* I_16x16_2_0_0 (tables 7-11, 7-13) */
            bits_ue(bits, 0); /* chroma likewise */
            int delta = FLAT_QP - qp;
            bits_se(bits, delta < -26 ? delta + 52 : delta > 25 ? delta - 52 : delta);
            qp = FLAT_QP;
            no_coefficients(bits, c, at, left, above);
            predict(c->out, x, y, left, above);
            continue;
        }
        bits_ue(bits, c->inter ? 30 : 25);
        pcm(bits, c->source, x, y);
        slice_keep(c->source, c->out, x, y);
        c->raw[at] = 1;
    }
    if (c->inter && run) bits_ue(bits, run);
    bits_put(bits, 1, 1);
    bits_align(bits, 0);
}

bool slice_cabac(struct bits *bits, struct coding *c) {
    struct cabac engine;
    uint32_t columns = c->source->columns;
    uint8_t *skipped = calloc(1, (size_t)columns * c->source->rows);
    if (!skipped) return false;
    bits_align(bits, 1);
    cabac_begin(&engine, bits, !c->inter, c->init_idc, c->qp);
    for (uint32_t at = c->first; at < c->first + c->count; at++) {
        uint32_t x = at % columns, y = at / columns;
        bool left = x > 0 && at > c->first, above = at >= c->first + columns;
        bool skip = c->inter && c->reference && !slice_refreshes(c, at) && slice_same(c->source, c->reference, x, y);
        skipped[at] = skip;
        if (c->inter) cabac_bin(&engine, 11u + (left && !skipped[at - 1]) + (above && !skipped[at - columns]), skip);
        if (!skip) {
            if (c->inter) {
                cabac_bin(&engine, 14, 1);
                cabac_bin(&engine, 17, 1);
            } else {
                cabac_bin(&engine, 3u + left + above, 1);
            }
            cabac_terminate(&engine, 1);
            pcm(bits, c->source, x, y);
            cabac_restart(&engine);
        }
        slice_keep(c->source, c->out, x, y);
        cabac_terminate(&engine, at + 1 == c->first + c->count);
    }
    free(skipped);
    bits_align(bits, 0);
    return true;
}
