/* Video processing: one surface into another, with conversion and cursors blended on top.
 *
 * In: 32-bit RGB or NV12 of any size, and RGB with premultiplied alpha to lie above it, unscaled. Out:
 * NV12 in BT.709 limited range. Scaling takes the nearest sample: what clients here ask for is
 * conversion at the same size. The arithmetic is exact integers, so that a test can compute the same
 * picture on its own. */
#include <string.h>

#include "driver.h"

bool vpp_takes(const struct driver *driver, uint32_t fourcc) {
    switch (fourcc) {
    case VA_FOURCC_NV12: return true;
    case VA_FOURCC_BGRX: case VA_FOURCC_BGRA: case VA_FOURCC_RGBX: case VA_FOURCC_RGBA:
        return !driver->mode.no_bgrx;
    default: return false;
    }
}

/* Red, green and blue of a pixel. */
static void rgb(const struct pixels *p, uint32_t x, uint32_t y, int out[3]) {
    const uint8_t *pixel = p->data + p->offsets[0] + (size_t)y * p->pitches[0] + (size_t)x * 4;
    bool blue_first = p->fourcc == VA_FOURCC_BGRX || p->fourcc == VA_FOURCC_BGRA;
    out[0] = pixel[blue_first ? 2 : 0];
    out[1] = pixel[1];
    out[2] = pixel[blue_first ? 0 : 2];
}

/* What lies above the input: `source` from `from` on, at these places of the output. */
struct layer {
    struct surface *source;
    VARectangle from, to;
};

/* The input's pixel with all that lies above it at a place of the output. */
static void blended(const struct pixels *in, uint32_t sx, uint32_t sy, const struct layer *layers, unsigned count,
                    uint32_t x, uint32_t y, int out[3]) {
    rgb(in, sx, sy, out);
    for (unsigned i = 0; i < count; i++) {
        const struct layer *l = &layers[i];
        if (x < (uint32_t)l->to.x || y < (uint32_t)l->to.y) continue;
        uint32_t column = x - (uint32_t)l->to.x, row = y - (uint32_t)l->to.y;
        if (column >= l->to.width || row >= l->to.height) continue;
        const struct pixels *p = &l->source->pixels;
        uint32_t lx = (uint32_t)l->from.x + column, ly = (uint32_t)l->from.y + row;
        int over[3], rest = 255 - p->data[p->offsets[0] + (size_t)ly * p->pitches[0] + (size_t)lx * 4 + 3];
        rgb(p, lx, ly, over);
        for (int c = 0; c < 3; c++) {
            out[c] = (out[c] * rest + 127) / 255 + over[c];
            if (out[c] > 255) out[c] = 255;
        }
    }
}

/* BT.709, limited range, 16 bits of fraction (ITU-R BT.709-6, section 3). */
static uint8_t luma(const int c[3]) {
    return (uint8_t)((11966 * c[0] + 40254 * c[1] + 4064 * c[2] + (16 << 16) + 32768) >> 16);
}
static uint8_t blue(const int c[3]) {
    return (uint8_t)((-6596 * c[0] - 22189 * c[1] + 28785 * c[2] + (128 << 16) + 32768) >> 16);
}
static uint8_t red(const int c[3]) {
    return (uint8_t)((28785 * c[0] - 26145 * c[1] - 2640 * c[2] + (128 << 16) + 32768) >> 16);
}

static VARectangle part_of(const VARectangle *asked, const struct pixels *p) {
    VARectangle whole = {0, 0, (uint16_t)p->width, (uint16_t)p->height};
    if (!asked) return whole;
    bool inside = asked->x >= 0 && asked->y >= 0 && (uint32_t)asked->x + asked->width <= p->width &&
                  (uint32_t)asked->y + asked->height <= p->height && asked->width && asked->height;
    return inside ? *asked : (VARectangle){0};
}

static uint32_t scaled(uint32_t at, uint32_t from, uint32_t to) {
    return from == to ? at : (uint32_t)((uint64_t)at * from / to);
}

/* All layers but the lowest; false if one of them is no such thing. */
static bool layers_of(struct driver *driver, const VAProcPipelineParameterBuffer *pipelines, unsigned count,
                      const struct pixels *out, struct layer *layers) {
    for (unsigned i = 0; i < count; i++) {
        const VAProcPipelineParameterBuffer *p = &pipelines[i];
        struct surface *source = LOOKUP(driver, surfaces, SURFACES, p->surface);
        bool alpha = source && (source->pixels.fourcc == VA_FOURCC_BGRA || source->pixels.fourcc == VA_FOURCC_RGBA);
        if (driver->mode.no_blend || !alpha || !p->blend_state || p->blend_state->flags != VA_BLEND_PREMULTIPLIED_ALPHA)
            return false;
        layers[i] = (struct layer){source, part_of(p->surface_region, &source->pixels), part_of(p->output_region, out)};
        const VARectangle *from = &layers[i].from, *to = &layers[i].to;
        if (!from->width || from->width != to->width || from->height != to->height) return false;
    }
    return true;
}

VAStatus vpp_run(struct driver *driver, const VAProcPipelineParameterBuffer *pipeline, unsigned count, struct surface *target) {
    struct layer layers[8];
    struct surface *source = LOOKUP(driver, surfaces, SURFACES, pipeline->surface);
    if (!source) return VA_STATUS_ERROR_INVALID_SURFACE;
    const struct pixels *in = &source->pixels;
    struct pixels *out = &target->pixels;
    if (!vpp_takes(driver, in->fourcc) || out->fourcc != VA_FOURCC_NV12) return VA_STATUS_ERROR_UNIMPLEMENTED;
    VARectangle from = part_of(pipeline->surface_region, in), to = part_of(pipeline->output_region, out);
    if (!from.width || !to.width) return VA_STATUS_ERROR_INVALID_PARAMETER;
    count--;
    if (!layers_of(driver, pipeline + 1, count, out, layers)) return VA_STATUS_ERROR_INVALID_PARAMETER;
    if (count && in->fourcc == VA_FOURCC_NV12) return VA_STATUS_ERROR_UNIMPLEMENTED;
    if (driver->mode.idle) return VA_STATUS_SUCCESS;
    surface_begin_cpu(source, false);
    surface_begin_cpu(target, true);
    for (uint32_t y = 0; y < to.height; y++) {
        uint32_t sy = (uint32_t)from.y + scaled(y, from.height, to.height), dy = (uint32_t)to.y + y;
        uint8_t *lumas = out->data + out->offsets[0] + (size_t)dy * out->pitches[0] + to.x;
        uint8_t *chromas = out->data + out->offsets[1] + (size_t)(dy / 2) * out->pitches[1] + (to.x & ~1);
        if (in->fourcc == VA_FOURCC_NV12) {
            const uint8_t *row = in->data + in->offsets[0] + (size_t)sy * in->pitches[0];
            const uint8_t *half = in->data + in->offsets[1] + (size_t)(sy / 2) * in->pitches[1];
            for (uint32_t x = 0; x < to.width; x++) {
                uint32_t sx = (uint32_t)from.x + scaled(x, from.width, to.width);
                lumas[x] = row[sx];
                if (!((dy | x) & 1)) memcpy(chromas + x, half + (sx & ~1u), 2);
            }
            continue;
        }
        for (uint32_t x = 0; x < to.width; x++) {
            uint32_t sx = (uint32_t)from.x + scaled(x, from.width, to.width);
            int c[3];
            uint32_t dx = (uint32_t)to.x + x;
            blended(in, sx, sy, layers, count, dx, dy, c);
            lumas[x] = luma(c);
            if ((dy | x) & 1) continue;
            /* Chroma is the mean of a square of four, what is outside of the picture left out. */
            uint32_t right = sx + 1 < in->width ? sx + 1 : sx, below = sy + 1 < in->height ? sy + 1 : sy;
            int sum[3] = {c[0], c[1], c[2]};
            const uint32_t others[3][4] = {{right, sy, 1, 0}, {sx, below, 0, 1}, {right, below, 1, 1}};
            for (int i = 0; i < 3; i++) {
                blended(in, others[i][0], others[i][1], layers, count, dx + others[i][2], dy + others[i][3], c);
                for (int j = 0; j < 3; j++) sum[j] += c[j];
            }
            for (int j = 0; j < 3; j++) sum[j] = (sum[j] + 2) / 4;
            chromas[x] = blue(sum);
            chromas[x + 1] = red(sum);
        }
    }
    surface_end_cpu(target, true);
    surface_end_cpu(source, false);
    return VA_STATUS_SUCCESS;
}
