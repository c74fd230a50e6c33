/* Images: how a client reads and writes surfaces. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

static const VAImageFormat formats[] = {
    {.fourcc = VA_FOURCC_NV12, .byte_order = VA_LSB_FIRST, .bits_per_pixel = 12},
    {.fourcc = VA_FOURCC_BGRX, .byte_order = VA_LSB_FIRST, .bits_per_pixel = 32, .depth = 24,
     .red_mask = 0xff0000, .green_mask = 0xff00, .blue_mask = 0xff},
    {.fourcc = VA_FOURCC_BGRA, .byte_order = VA_LSB_FIRST, .bits_per_pixel = 32, .depth = 32,
     .red_mask = 0xff0000, .green_mask = 0xff00, .blue_mask = 0xff, .alpha_mask = 0xff000000},
};
enum { FORMATS = sizeof formats / sizeof *formats };

VAStatus image_formats(VAImageFormat *list, int *count) {
    memcpy(list, formats, sizeof formats);
    *count = FORMATS;
    return VA_STATUS_SUCCESS;
}

/* An image over `data`, or over memory of its own when there is none. */
static VAStatus make(struct driver *driver, const struct pixels *p, VASurfaceID of_surface, VAImage *out) {
    struct image *image = calloc(1, sizeof *image);
    struct buffer *buffer = calloc(1, sizeof *buffer);
    uint8_t *data = of_surface == VA_INVALID_ID ? calloc(1, p->size) : NULL;
    int image_index = -1, buffer_index = -1;
    if (image && buffer && (data || of_surface != VA_INVALID_ID)) {
        *buffer = (struct buffer){.type = VAImageBufferType, .size = (uint32_t)p->size, .count = 1, .data = data,
                                  .of_surface = of_surface};
        buffer_index = table_put((void **)driver->buffers, buffer);
        image_index = buffer_index < 0 ? -1 : table_put((void **)driver->images, image);
    }
    if (image_index < 0) {
        if (buffer_index >= 0) driver->buffers[buffer_index] = NULL;
        free(image);
        free(buffer);
        free(data);
        return VA_STATUS_ERROR_ALLOCATION_FAILED;
    }
    image->of_surface = of_surface;
    VAImage *v = &image->image;
    *v = (VAImage){.image_id = IMAGES + (uint32_t)image_index, .buf = BUFFERS + (uint32_t)buffer_index,
                   .width = (uint16_t)p->width, .height = (uint16_t)p->height, .data_size = (uint32_t)p->size,
                   .num_planes = p->fourcc == VA_FOURCC_NV12 ? 2 : 1};
    for (int i = 0; i < FORMATS; i++) if (formats[i].fourcc == p->fourcc) v->format = formats[i];
    v->format.fourcc = p->fourcc;
    for (int i = 0; i < 2; i++) v->pitches[i] = p->pitches[i], v->offsets[i] = p->offsets[i];
    *out = *v;
    return VA_STATUS_SUCCESS;
}

VAStatus image_create(struct driver *driver, const VAImageFormat *format, uint32_t width, uint32_t height, VAImage *out) {
    struct pixels p;
    bool known = false;
    for (int i = 0; i < FORMATS; i++) known |= formats[i].fourcc == format->fourcc;
    if (!known) return VA_STATUS_ERROR_INVALID_IMAGE_FORMAT;
    if (!width || !height || width > MAX_EDGE || height > MAX_EDGE) return VA_STATUS_ERROR_RESOLUTION_NOT_SUPPORTED;
    pixels_layout(&p, format->fourcc, width, height);
    return make(driver, &p, VA_INVALID_ID, out);
}

VAStatus image_derive(struct driver *driver, VASurfaceID id, VAImage *out) {
    struct surface *surface = LOOKUP(driver, surfaces, SURFACES, id);
    if (!surface) return VA_STATUS_ERROR_INVALID_SURFACE;
    if (driver->mode.no_derive) return VA_STATUS_ERROR_OPERATION_FAILED;
    VAStatus status = make(driver, &surface->pixels, id, out);
    if (status == VA_STATUS_SUCCESS && driver->mode.lying_pitch) out->pitches[0] = 1u << 30;
    return status;
}

VAStatus image_destroy(struct driver *driver, VAImageID id) {
    struct image *image = LOOKUP(driver, images, IMAGES, id);
    if (!image) return VA_STATUS_ERROR_INVALID_IMAGE;
    struct buffer *buffer = LOOKUP(driver, buffers, BUFFERS, image->image.buf);
    if (buffer) {
        driver->buffers[image->image.buf - BUFFERS] = NULL;
        free(buffer->data);
        free(buffer);
    }
    driver->images[id - IMAGES] = NULL;
    free(image);
    return VA_STATUS_SUCCESS;
}

static bool inside(const VARectangle *part, uint32_t width, uint32_t height) {
    return part->x >= 0 && part->y >= 0 && (uint32_t)part->x + part->width <= width &&
           (uint32_t)part->y + part->height <= height;
}

VAStatus image_copy(struct driver *driver, VASurfaceID surface_id, VAImageID image_id, const VARectangle *surface_part,
                    const VARectangle *image_part, bool to_surface) {
    struct surface *surface = LOOKUP(driver, surfaces, SURFACES, surface_id);
    struct image *image = LOOKUP(driver, images, IMAGES, image_id);
    if (!surface) return VA_STATUS_ERROR_INVALID_SURFACE;
    if (!image) return VA_STATUS_ERROR_INVALID_IMAGE;
    struct buffer *buffer = LOOKUP(driver, buffers, BUFFERS, image->image.buf);
    struct pixels *p = &surface->pixels;
    const VAImage *v = &image->image;
    if (!buffer || !buffer->data) return VA_STATUS_ERROR_INVALID_BUFFER;
    if (v->format.fourcc != p->fourcc) return VA_STATUS_ERROR_INVALID_IMAGE_FORMAT;
    if (!inside(surface_part, p->width, p->height) || !inside(image_part, v->width, v->height) ||
        surface_part->width != image_part->width || surface_part->height != image_part->height)
        return VA_STATUS_ERROR_INVALID_PARAMETER;
    bool nv12 = p->fourcc == VA_FOURCC_NV12;
    surface_begin_cpu(surface, to_surface);
    for (unsigned plane = 0; plane < v->num_planes; plane++) {
        /* Chroma of NV12: half as many rows, as many bytes in each, an odd one completed. */
        uint32_t half = plane, unit = nv12 ? 1 : 4;
        uint32_t rows = half ? (surface_part->height + 1u) / 2 : surface_part->height;
        uint32_t columns = half ? (surface_part->width + 1u) & ~1u : surface_part->width;
        for (uint32_t row = 0; row < rows; row++) {
            uint8_t *there = p->data + p->offsets[plane] + (size_t)(((uint32_t)surface_part->y >> half) + row) * p->pitches[plane] + (size_t)(uint32_t)surface_part->x * unit;
            uint8_t *here = buffer->data + v->offsets[plane] + (size_t)(((uint32_t)image_part->y >> half) + row) * v->pitches[plane] + (size_t)(uint32_t)image_part->x * unit;
            memcpy(to_surface ? there : here, to_surface ? here : there, (size_t)columns * unit);
        }
    }
    surface_end_cpu(surface, to_surface);
    return VA_STATUS_SUCCESS;
}
