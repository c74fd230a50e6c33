/* Video processing: one surface into another, with conversion and cursors blended on top.
 *
 * In: 32-bit RGB or NV12 of any size. Out: NV12 in BT.709 limited range. Scaling takes the nearest
 * sample: what clients here ask for is conversion at the same size. The arithmetic is exact integers,
 * so that a test can compute the same picture on its own. */
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

VAStatus vpp_run(struct driver *driver, const VAProcPipelineParameterBuffer *pipeline, struct surface *target) {
    struct surface *source = LOOKUP(driver, surfaces, SURFACES, pipeline->surface);
    if (!source) return VA_STATUS_ERROR_INVALID_SURFACE;
    const struct pixels *in = &source->pixels;
    struct pixels *out = &target->pixels;
    if (!vpp_takes(driver, in->fourcc) || out->fourcc != VA_FOURCC_NV12) return VA_STATUS_ERROR_UNIMPLEMENTED;
    VARectangle from = part_of(pipeline->surface_region, in), to = part_of(pipeline->output_region, out);
    if (!from.width || !to.width) return VA_STATUS_ERROR_INVALID_PARAMETER;
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
            rgb(in, sx, sy, c);
            lumas[x] = luma(c);
            if ((dy | x) & 1) continue;
            /* Chroma is the mean of a square of four, what is outside of the picture left out. */
            uint32_t right = sx + 1 < in->width ? sx + 1 : sx, below = sy + 1 < in->height ? sy + 1 : sy;
            int sum[3] = {c[0], c[1], c[2]};
            const uint32_t others[3][2] = {{right, sy}, {sx, below}, {right, below}};
            for (int i = 0; i < 3; i++) {
                rgb(in, others[i][0], others[i][1], c);
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
