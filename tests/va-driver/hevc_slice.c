/* slice_segment_data() of HEVC: each coding unit is skipped, I_PCM, or coded as its mean.
 *
 * In: the source and the reference. Out: bits, and the picture that a decoder makes of them before it
 * deblocks (ITU-T H.265, 7.3.8, 8.4.4, 8.6, 9.3). */
#include <string.h>

#include "driver.h"

/* Where the contexts of a syntax element lie in the coder's table. */
enum {
    SPLIT_CU = 0, BYPASS_FLAG = 3, CU_SKIP = 4, PRED_MODE = 7, PART_MODE = 8, PREV_INTRA = 9, CHROMA_MODE = 10, MERGE_IDX = 11,
    SPLIT_TRANSFORM = 12, CBF_LUMA = 15, CBF_CHROMA = 17, QP_DELTA = 21, TRANSFORM_SKIP = 22, LAST_X = 24, LAST_Y = 42,
    GREATER1 = 60, GREATER2 = 84, CODER_CONTEXTS = 90,
};
/* Tables 9-5 to 9-37: initValue for I, and for the two types of P and B. Elements that I has not: 154. */
static const uint8_t init_values[3][CODER_CONTEXTS] = {
    {139, 141, 157, 154, 154, 154, 154, 154, 184, 184, 63, 154, 153, 138, 138, 111, 141, 94, 138, 182, 154, 154, 139, 139,
     110, 110, 124, 125, 140, 153, 125, 127, 140, 109, 111, 143, 127, 111, 79, 108, 123, 63,
     110, 110, 124, 125, 140, 153, 125, 127, 140, 109, 111, 143, 127, 111, 79, 108, 123, 63,
     140, 92, 137, 138, 140, 152, 138, 139, 153, 74, 149, 92, 139, 107, 122, 152, 140, 179, 166, 182, 140, 227, 122, 197,
     138, 153, 136, 167, 152, 152},
    {107, 139, 126, 154, 197, 185, 201, 149, 154, 154, 152, 122, 124, 138, 94, 153, 111, 149, 107, 167, 154, 154, 139, 139,
     125, 110, 94, 110, 95, 79, 125, 111, 110, 78, 110, 111, 111, 95, 94, 108, 123, 108,
     125, 110, 94, 110, 95, 79, 125, 111, 110, 78, 110, 111, 111, 95, 94, 108, 123, 108,
     154, 196, 196, 167, 154, 152, 167, 182, 182, 134, 149, 136, 153, 121, 136, 137, 169, 194, 166, 167, 154, 167, 137, 182,
     107, 167, 91, 122, 107, 167},
    {107, 139, 126, 154, 197, 185, 201, 134, 154, 183, 152, 137, 224, 167, 122, 153, 111, 149, 92, 167, 154, 154, 139, 139,
     125, 110, 124, 110, 95, 94, 125, 111, 111, 79, 125, 126, 111, 111, 79, 108, 123, 93,
     125, 110, 124, 110, 95, 94, 125, 111, 111, 79, 125, 126, 111, 111, 79, 108, 123, 93,
     154, 196, 167, 167, 154, 152, 167, 182, 182, 134, 149, 136, 153, 121, 136, 122, 169, 208, 166, 167, 154, 152, 167, 182,
     107, 167, 91, 107, 107, 167},
};
/* Table 8-10: QpC of qPi 30 to 43. */
static const uint8_t chroma_qp[14] = {29, 30, 31, 32, 33, 33, 34, 34, 35, 35, 36, 36, 37, 37};
static const int level_scale[6] = {40, 45, 51, 57, 64, 72};

struct coder {
    struct cabac cabac;
    struct bits *bits;
    struct hevc_coding *c;
    uint32_t across; /* 8x8 blocks in a row of the maps */
    bool told_qp;    /* of this quantisation group: cu_qp_delta_abs was written */
};

/* One plane's samples: of NV12, chroma lies two bytes apart. */
struct plane { uint8_t *at; size_t row, step; };

static struct plane plane_of(const struct surface *s, unsigned component, uint32_t x, uint32_t y) {
    size_t row = s->columns * 16u, lumas = row * s->rows * 16u;
    if (!component) return (struct plane){s->coded + y * row + x, row, 1};
    return (struct plane){s->coded + lumas + y / 2 * row + x + component - 1, row, 2};
}

static bool same(const struct surface *a, const struct surface *b, uint32_t x, uint32_t y, uint32_t width, uint32_t height) {
    size_t row = a->columns * 16u, lumas = row * a->rows * 16u;
    for (uint32_t i = 0; i < height; i++)
        if (memcmp(a->coded + (y + i) * row + x, b->coded + (y + i) * row + x, width)) return false;
    for (uint32_t i = 0; i < height / 2; i++)
        if (memcmp(a->coded + lumas + (y / 2 + i) * row + x, b->coded + lumas + (y / 2 + i) * row + x, width)) return false;
    return true;
}

bool hevc_same(const struct surface *a, const struct surface *b, uint32_t width, uint32_t height) {
    return same(a, b, 0, 0, width, height);
}

static void keep(const struct surface *from, struct surface *to, uint32_t x, uint32_t y, uint32_t size) {
    size_t row = from->columns * 16u, lumas = row * from->rows * 16u;
    for (uint32_t i = 0; i < size; i++) memcpy(to->coded + (y + i) * row + x, from->coded + (y + i) * row + x, size);
    for (uint32_t i = 0; i < size / 2; i++)
        memcpy(to->coded + lumas + (y / 2 + i) * row + x, from->coded + lumas + (y / 2 + i) * row + x, size);
}

static size_t block(const struct coder *e, uint32_t x, uint32_t y) { return y / 8 * e->across + x / 8; }

/* 6.4.1: in this slice, and coded already. */
static bool available(const struct coder *e, long x, long y) {
    return x >= 0 && y >= 0 && e->c->done[block(e, (uint32_t)x, (uint32_t)y)] == e->c->number;
}

static void bin(struct coder *e, unsigned context, unsigned value) { cabac_bin(&e->cabac, context, value); }

static void pcm(struct coder *e, uint32_t x, uint32_t y, uint32_t size) {
    cabac_terminate(&e->cabac, 1); /* pcm_flag */
    bits_align(e->bits, 0);
    for (unsigned component = 0; component < 3; component++) {
        struct plane p = plane_of(e->c->source, component, x, y);
        uint32_t edge = component ? size / 2 : size;
        uint8_t line[64];
        for (uint32_t v = 0; v < edge; v++) {
            for (uint32_t h = 0; h < edge; h++) line[h] = p.at[v * p.row + h * p.step];
            bits_bytes(e->bits, line, edge);
        }
    }
    cabac_restart(&e->cabac);
    keep(e->c->source, e->c->out, x, y, size);
}

/* INTRA_DC (8.4.4.2.5), with what 8.4.4.2.2 puts where there are no neighbours; yields the mean. */
static int predict(struct plane p, uint32_t size, unsigned log2, bool left, bool above, bool smooth) {
    int l[64], a[64], sum = (int)size;
    for (uint32_t i = 0; i < size; i++) {
        a[i] = above ? p.at[(long)(i * p.step) - (long)p.row] : left ? p.at[-(long)p.step] : 128;
        l[i] = left ? p.at[(long)(i * p.row) - (long)p.step] : above ? p.at[-(long)p.row] : 128;
        sum += a[i] + l[i];
    }
    int dc = sum >> (log2 + 1);
    for (uint32_t v = 0; v < size; v++) for (uint32_t h = 0; h < size; h++) {
        int value = dc;
        if (smooth && !v && !h) value = (l[0] + 2 * dc + a[0] + 2) >> 2;
        else if (smooth && !v) value = (a[h] + 3 * dc + 2) >> 2;
        else if (smooth && !h) value = (l[v] + 3 * dc + 2) >> 2;
        p.at[v * p.row + h * p.step] = (uint8_t)value;
    }
    return dc;
}

static int clip(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

/* What one coefficient, the first, adds to all samples of a block (8.6.4.2, 8.6.2). */
static int gain(int level, int qp, unsigned log2) {
    int shift = (int)log2 + 3;
    int64_t scaled = ((int64_t)level * 16 * (level_scale[qp % 6] << (qp / 6)) + (1 << (shift - 1))) >> shift;
    int first = clip((int)(scaled < -32768 ? -32768 : scaled > 32767 ? 32767 : scaled) * 64 + 64, -(1 << 30), 1 << 30) >> 7;
    return (64 * first + 2048) >> 12;
}

/* The level that comes closest to `residual`. */
static int quantise(int residual, int qp, unsigned log2) {
    int64_t unit = 16 * (int64_t)(level_scale[qp % 6] << (qp / 6)), wanted = (int64_t)residual * 128 << (log2 + 3);
    int64_t level = (wanted + (wanted < 0 ? -unit : unit) / 2) / unit;
    return clip((int)level, -32768, 32767);
}

static int component_qp(const struct hevc_coding *c, unsigned component) {
    if (!component) return c->qp;
    int qp = clip(c->qp + (component == 1 ? c->cb_offset : c->cr_offset), 0, 57);
    return qp < 30 ? qp : qp < 44 ? chroma_qp[qp - 30] : qp - 6;
}

/* residual_coding() of a block whose only coefficient is the first. */
static void residual(struct coder *e, int level, unsigned log2, bool chroma) {
    unsigned last = chroma ? 15 : 3 * (log2 - 2) + ((log2 - 1) >> 2), sum = (unsigned)(level < 0 ? -level : level);
    if (e->c->skip_flag && log2 == 2) bin(e, TRANSFORM_SKIP + chroma, 0);
    bin(e, LAST_X + last, 0);
    bin(e, LAST_Y + last, 0);
    bin(e, GREATER1 + (chroma ? 17 : 1), sum > 1);
    if (sum > 1) bin(e, GREATER2 + (chroma ? 4 : 0), sum > 2);
    cabac_bypass(&e->cabac, level < 0);
    if (sum <= 2) return;
    /* coeff_abs_level_remaining, cRiceParam 0 (9.3.3.11). */
    uint32_t rest = sum - 3;
    for (uint32_t i = 0; i < (rest < 4 ? rest : 4); i++) cabac_bypass(&e->cabac, 1);
    if (rest < 4) {
        cabac_bypass(&e->cabac, 0);
        return;
    }
    rest -= 4;
    unsigned k = 1;
    for (; rest >= 1u << k; k++) {
        cabac_bypass(&e->cabac, 1);
        rest -= 1u << k;
    }
    cabac_bypass(&e->cabac, 0);
    while (k-- > 0) cabac_bypass(&e->cabac, rest >> k & 1);
}

/* An intra unit without I_PCM: predicted from its neighbours' mean, and its own mean set right. */
static void mean(struct coder *e, uint32_t x, uint32_t y, unsigned log2) {
    struct hevc_coding *c = e->c;
    bin(e, PREV_INTRA, 1);
    cabac_bypass(&e->cabac, 1); /* mpm_idx 1: as all neighbours are INTRA_DC, that is INTRA_DC */
    cabac_bypass(&e->cabac, 0);
    bin(e, CHROMA_MODE, 0); /* as luma */
    bool left = available(e, (long)x - 1, y), above = available(e, x, (long)y - 1);
    int levels[3];
    for (unsigned component = 0; component < 3; component++) {
        unsigned edge = log2 - (component > 0);
        uint32_t size = 1u << edge;
        struct plane from = plane_of(c->source, component, x, y), to = plane_of(c->out, component, x, y);
        predict(to, size, edge, left, above, component == 0 && size < 32);
        long difference = 0;
        for (uint32_t v = 0; v < size; v++) for (uint32_t h = 0; h < size; h++)
            difference += from.at[v * from.row + h * from.step] - to.at[v * to.row + h * to.step];
        long area = (long)size * size;
        int residual = (int)((difference + (difference < 0 ? -area : area) / 2) / area), qp = component_qp(c, component);
        levels[component] = quantise(residual, qp, edge);
        int added = gain(levels[component], qp, edge);
        for (uint32_t v = 0; v < size; v++) for (uint32_t h = 0; h < size; h++) {
            uint8_t *sample = &to.at[v * to.row + h * to.step];
            *sample = (uint8_t)clip(*sample + added, 0, 255);
        }
    }
    /* transform_tree(): not split. */
    if (log2 > c->tb_least && c->hierarchy) bin(e, SPLIT_TRANSFORM + 5 - log2, 0);
    bin(e, CBF_CHROMA, levels[1] != 0);
    bin(e, CBF_CHROMA, levels[2] != 0);
    bin(e, CBF_LUMA + 1, levels[0] != 0);
    if (!levels[0] && !levels[1] && !levels[2]) return;
    if (c->qp_delta && !e->told_qp) {
        bin(e, QP_DELTA, 0);
        e->told_qp = true;
    }
    for (unsigned component = 0; component < 3; component++)
        if (levels[component]) residual(e, levels[component], log2 - (component > 0), component > 0);
}

static void unit(struct coder *e, uint32_t x, uint32_t y, unsigned log2, unsigned depth, bool skip) {
    struct hevc_coding *c = e->c;
    uint32_t size = 1u << log2;
    if (c->bypass_flag) bin(e, BYPASS_FLAG, 0);
    if (c->inter) {
        unsigned left = available(e, (long)x - 1, y) && c->skipped[block(e, x - 1, y)];
        unsigned above = available(e, x, (long)y - 1) && c->skipped[block(e, x, y - 1)];
        bin(e, CU_SKIP + left + above, skip);
    }
    if (skip) {
        /* The first candidate: all neighbours have no motion, and what has none gets none (8.5.3.2.2). */
        if (c->merge_candidates > 1) bin(e, MERGE_IDX, 0);
        keep(c->reference, c->out, x, y, size);
    } else {
        if (c->inter) bin(e, PRED_MODE, 1);
        if (log2 == c->cb) bin(e, PART_MODE, 1);
        bool can = c->pcm_most && log2 >= c->pcm_least && log2 <= c->pcm_most;
        if (can && c->pcm_whole) {
            pcm(e, x, y, size);
        } else {
            if (can) cabac_terminate(&e->cabac, 0); /* pcm_flag */
            mean(e, x, y, log2);
        }
    }
    for (uint32_t v = 0; v < size; v += 8) for (uint32_t h = 0; h < size; h += 8) {
        size_t at = block(e, x + h, y + v);
        c->done[at] = c->number, c->depth[at] = (uint8_t)depth, c->skipped[at] = skip;
    }
}

static void quadtree(struct coder *e, uint32_t x, uint32_t y, unsigned log2, unsigned depth) {
    struct hevc_coding *c = e->c;
    uint32_t size = 1u << log2;
    if (x >= c->width || y >= c->height) return;
    if (log2 >= c->group) e->told_qp = false;
    bool inside = x + size <= c->width && y + size <= c->height;
    bool skip = inside && c->reference && same(c->source, c->reference, x, y, size, size);
    /* As large as can be; where some may be skipped, 16. */
    unsigned most = c->pcm_most && c->pcm_whole ? c->pcm_most : c->cb;
    if (c->reference && most > 4) most = 4;
    if (most < c->cb) most = c->cb;
    bool split = !inside || (!skip && log2 > most);
    if (inside && log2 > c->cb) {
        unsigned left = available(e, (long)x - 1, y) && c->depth[block(e, x - 1, y)] > depth;
        unsigned above = available(e, x, (long)y - 1) && c->depth[block(e, x, y - 1)] > depth;
        bin(e, SPLIT_CU + left + above, split);
    }
    if (!split) {
        unit(e, x, y, log2, depth, skip);
        return;
    }
    for (unsigned i = 0; i < 4; i++) quadtree(e, x + (i & 1) * size / 2, y + (i >> 1) * size / 2, log2 - 1, depth + 1);
}

void hevc_slice(struct bits *bits, struct hevc_coding *c) {
    struct coder e = {.bits = bits, .c = c, .across = (c->width + 7) / 8};
    const uint8_t *values = init_values[!c->inter ? 0 : c->both != c->init_flag ? 2 : 1];
    e.cabac.out = bits;
    for (unsigned i = 0; i < CODER_CONTEXTS; i++) cabac_context(&e.cabac, i, values[i], c->qp);
    cabac_restart(&e.cabac);
    uint32_t columns = (c->width + (1u << c->ctb) - 1) >> c->ctb;
    for (uint32_t at = c->first; at < c->first + c->count; at++) {
        quadtree(&e, (at % columns) << c->ctb, (at / columns) << c->ctb, c->ctb, 0);
        cabac_terminate(&e.cabac, at + 1 == c->first + c->count);
    }
    bits_align(bits, 0);
}
