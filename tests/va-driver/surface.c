/* Surfaces: memory of the driver's own, or a linear dma-buf that the caller brings. */
#include <errno.h>
#include <linux/dma-buf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"

/* What `drm_fourcc.h` calls these, and it names bytes the other way round. */
#define DRM(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
static const struct { uint32_t drm, va; } formats[] = {
    {DRM('N', 'V', '1', '2'), VA_FOURCC_NV12}, {DRM('X', 'R', '2', '4'), VA_FOURCC_BGRX},
    {DRM('A', 'R', '2', '4'), VA_FOURCC_BGRA}, {DRM('X', 'B', '2', '4'), VA_FOURCC_RGBX},
    {DRM('A', 'B', '2', '4'), VA_FOURCC_RGBA},
};
enum { FORMATS = sizeof formats / sizeof *formats };

static const uint64_t LINEAR = 0, UNTOLD = 0x00ffffffffffffff; /* DRM_FORMAT_MOD_LINEAR, _INVALID */

/* Lays a picture out as a GPU would, with rows that are longer than it; yields its bytes. */
uint32_t pixels_layout(struct pixels *p, uint32_t fourcc, uint32_t width, uint32_t height) {
    *p = (struct pixels){.fourcc = fourcc, .width = width, .height = height};
    if (fourcc == VA_FOURCC_NV12) {
        uint32_t rows = (height + 15) & ~15u;
        p->pitches[0] = p->pitches[1] = (width + 63) & ~63u;
        p->offsets[1] = p->pitches[0] * rows;
        p->size = p->offsets[1] + (size_t)p->pitches[1] * rows / 2;
    } else {
        p->pitches[0] = (width * 4 + 63) & ~63u;
        p->size = (size_t)p->pitches[0] * height;
    }
    return (uint32_t)p->size;
}

static void sync_dmabuf(const struct surface *surface, uint64_t flags) {
    struct dma_buf_sync sync = {flags};
    if (surface->dmabuf < 0) return;
    while (ioctl(surface->dmabuf, DMA_BUF_IOCTL_SYNC, &sync) != 0 && (errno == EINTR || errno == EAGAIN)) {
    }
}

void surface_begin_cpu(const struct surface *surface, bool write) {
    sync_dmabuf(surface, DMA_BUF_SYNC_START | (write ? DMA_BUF_SYNC_RW : DMA_BUF_SYNC_READ));
}

void surface_end_cpu(const struct surface *surface, bool write) {
    sync_dmabuf(surface, DMA_BUF_SYNC_END | (write ? DMA_BUF_SYNC_RW : DMA_BUF_SYNC_READ));
}

/* Maps what the caller describes, once it is certain that the picture lies inside of it. */
static VAStatus import(struct surface *surface, const VADRMPRIMESurfaceDescriptor *d, uint32_t width, uint32_t height) {
    struct pixels *p = &surface->pixels;
    if (d->num_objects != 1 || d->num_layers < 1 || d->num_layers > 2) return VA_STATUS_ERROR_INVALID_PARAMETER;
    uint64_t modifier = d->objects[0].drm_format_modifier;
    if (modifier != LINEAR && modifier != UNTOLD) return VA_STATUS_ERROR_UNSUPPORTED_MEMORY_TYPE;
    *p = (struct pixels){.fourcc = d->fourcc, .width = width, .height = height};
    for (int i = 0; i < FORMATS; i++) {
        if (d->num_layers == 1 && formats[i].drm == d->layers[0].drm_format) p->fourcc = formats[i].va;
    }
    bool nv12 = p->fourcc == VA_FOURCC_NV12;
    for (unsigned plane = 0; plane < (nv12 ? 2 : 1); plane++) {
        bool own = d->num_layers == 2; /* NV12 as two layers of one plane each */
        unsigned layer = own ? plane : 0, index = own ? 0 : plane;
        if (index >= d->layers[layer].num_planes) return VA_STATUS_ERROR_INVALID_PARAMETER;
        p->offsets[plane] = d->layers[layer].offset[index];
        p->pitches[plane] = d->layers[layer].pitch[index];
    }
    off_t end = lseek(d->objects[0].fd, 0, SEEK_END);
    p->size = end > 0 ? (size_t)end : d->objects[0].size;
    uint64_t row = nv12 ? width : (uint64_t)width * 4;
    for (unsigned plane = 0; plane < (nv12 ? 2 : 1); plane++) {
        uint64_t rows = plane ? (height + 1) / 2 : height;
        if (p->pitches[plane] < row || p->offsets[plane] + (rows - 1) * p->pitches[plane] + row > p->size)
            return VA_STATUS_ERROR_INVALID_PARAMETER;
    }
    surface->dmabuf = dup(d->objects[0].fd);
    if (surface->dmabuf < 0) return VA_STATUS_ERROR_ALLOCATION_FAILED;
    void *map = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_SHARED, surface->dmabuf, 0);
    if (map == MAP_FAILED) map = mmap(NULL, p->size, PROT_READ, MAP_SHARED, surface->dmabuf, 0);
    if (map == MAP_FAILED) return VA_STATUS_ERROR_ALLOCATION_FAILED;
    p->data = map;
    return VA_STATUS_SUCCESS;
}

static void drop(struct surface *surface) {
    if (surface->dmabuf >= 0) {
        if (surface->pixels.data) munmap(surface->pixels.data, surface->pixels.size);
        close(surface->dmabuf);
    } else {
        free(surface->pixels.data);
    }
    free(surface->coded);
    free(surface);
}

static VAStatus make(struct driver *driver, uint32_t fourcc, uint32_t width, uint32_t height,
                     const VADRMPRIMESurfaceDescriptor *foreign, VASurfaceID *id) {
    struct surface *surface = calloc(1, sizeof *surface);
    if (!surface) return VA_STATUS_ERROR_ALLOCATION_FAILED;
    surface->dmabuf = -1;
    surface->derived = VA_INVALID_ID;
    VAStatus status = VA_STATUS_SUCCESS;
    if (foreign) {
        status = import(surface, foreign, width, height);
    } else {
        uint32_t size = pixels_layout(&surface->pixels, fourcc, width, height);
        surface->pixels.data = calloc(1, size);
        if (!surface->pixels.data) status = VA_STATUS_ERROR_ALLOCATION_FAILED;
    }
    int index = status == VA_STATUS_SUCCESS ? table_put((void **)driver->surfaces, surface) : -1;
    if (index < 0) {
        drop(surface);
        return status == VA_STATUS_SUCCESS ? VA_STATUS_ERROR_ALLOCATION_FAILED : status;
    }
    *id = SURFACES + (uint32_t)index;
    return VA_STATUS_SUCCESS;
}

VAStatus surface_create(struct driver *driver, uint32_t format, uint32_t width, uint32_t height, VASurfaceID *ids,
                        unsigned count, VASurfaceAttrib *attributes, unsigned attribute_count) {
    uint32_t fourcc = format == VA_RT_FORMAT_YUV420 ? VA_FOURCC_NV12 : format == VA_RT_FORMAT_RGB32 ? VA_FOURCC_BGRX : 0;
    uint32_t memory = VA_SURFACE_ATTRIB_MEM_TYPE_VA;
    const VADRMPRIMESurfaceDescriptor *foreign = NULL;
    for (unsigned i = 0; i < attribute_count; i++) {
        const VASurfaceAttrib *a = &attributes[i];
        if (!(a->flags & VA_SURFACE_ATTRIB_SETTABLE)) continue;
        if (a->type == VASurfaceAttribPixelFormat) fourcc = (uint32_t)a->value.value.i;
        if (a->type == VASurfaceAttribMemoryType) memory = (uint32_t)a->value.value.i;
        if (a->type == VASurfaceAttribExternalBufferDescriptor) foreign = a->value.value.p;
    }
    if (memory == VA_SURFACE_ATTRIB_MEM_TYPE_VA) foreign = NULL;
    else if (memory != VA_SURFACE_ATTRIB_MEM_TYPE_DRM_PRIME_2 || driver->mode.no_import || !foreign)
        return VA_STATUS_ERROR_UNSUPPORTED_MEMORY_TYPE;
    bool known = false;
    for (int i = 0; i < FORMATS; i++) known |= formats[i].va == fourcc;
    if (!known && !foreign) return VA_STATUS_ERROR_UNSUPPORTED_RT_FORMAT;
    if (!width || !height || width > MAX_EDGE || height > MAX_EDGE) return VA_STATUS_ERROR_RESOLUTION_NOT_SUPPORTED;
    for (unsigned i = 0; i < count; i++) {
        VAStatus status = make(driver, fourcc, width, height, foreign, &ids[i]);
        if (status != VA_STATUS_SUCCESS) {
            surface_destroy(driver, ids, (int)i);
            return status;
        }
    }
    return VA_STATUS_SUCCESS;
}

VAStatus surface_destroy(struct driver *driver, VASurfaceID *ids, int count) {
    for (int i = 0; i < count; i++) {
        struct surface *surface = LOOKUP(driver, surfaces, SURFACES, ids[i]);
        if (!surface) return VA_STATUS_ERROR_INVALID_SURFACE;
        driver->surfaces[ids[i] - SURFACES] = NULL;
        drop(surface);
    }
    return VA_STATUS_SUCCESS;
}

VAStatus surface_attributes(struct driver *driver, const struct config *config, VASurfaceAttrib *list, unsigned *count) {
    VASurfaceAttrib all[16];
    unsigned n = 0;
    int memory = VA_SURFACE_ATTRIB_MEM_TYPE_VA;
    if (!driver->mode.no_import) memory |= VA_SURFACE_ATTRIB_MEM_TYPE_DRM_PRIME_2;
#define INTEGER(kind, how, number) \
    all[n++] = (VASurfaceAttrib){.type = kind, .flags = how, .value = {.type = VAGenericValueTypeInteger, .value.i = number}}
    bool vpp = config->entrypoint == VAEntrypointVideoProc;
    for (int i = 0; i < FORMATS; i++) {
        bool wanted = formats[i].va == VA_FOURCC_NV12 || (vpp && vpp_takes(driver, formats[i].va));
        if (wanted) INTEGER(VASurfaceAttribPixelFormat, VA_SURFACE_ATTRIB_GETTABLE | VA_SURFACE_ATTRIB_SETTABLE, (int)formats[i].va);
    }
    INTEGER(VASurfaceAttribMinWidth, VA_SURFACE_ATTRIB_GETTABLE, 16);
    INTEGER(VASurfaceAttribMinHeight, VA_SURFACE_ATTRIB_GETTABLE, 16);
    INTEGER(VASurfaceAttribMaxWidth, VA_SURFACE_ATTRIB_GETTABLE, MAX_EDGE);
    INTEGER(VASurfaceAttribMaxHeight, VA_SURFACE_ATTRIB_GETTABLE, MAX_EDGE);
    INTEGER(VASurfaceAttribMemoryType, VA_SURFACE_ATTRIB_GETTABLE | VA_SURFACE_ATTRIB_SETTABLE, memory);
    all[n++] = (VASurfaceAttrib){.type = VASurfaceAttribExternalBufferDescriptor, .flags = VA_SURFACE_ATTRIB_SETTABLE,
                                 .value = {.type = VAGenericValueTypePointer}};
#undef INTEGER
    unsigned room = *count;
    *count = n;
    if (!list) return VA_STATUS_SUCCESS;
    if (room < n) return VA_STATUS_ERROR_MAX_NUM_EXCEEDED;
    memcpy(list, all, n * sizeof *all);
    return VA_STATUS_SUCCESS;
}
