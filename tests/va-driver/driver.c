/* A VA driver in software, for tests: the real libva loads it, and whoever encodes H.264 through libva
 * can be watched doing so. What a driver may do differently is told by TRANSOM_VA_MODE (mode.c).
 *
 * In C, against libva's own headers, although the project is Rust: the agent declares libva's
 * structures itself, and a driver that shared those declarations would share their mistakes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"

int table_put(void **table, void *object) {
    for (int i = 0; i < MAX_OBJECTS; i++) {
        if (!table[i]) {
            table[i] = object;
            return i;
        }
    }
    return -1;
}

void *table_at(void **table, uint32_t base, uint32_t id) {
    return id >= base && id - base < MAX_OBJECTS ? table[id - base] : NULL;
}

void driver_maybe_hang(struct driver *driver) {
    while (driver->mode.hang_after >= 0 && driver->frames > driver->mode.hang_after) pause();
}

/* Surfaces. */

static VAStatus create_surfaces2(VADriverContextP ctx, unsigned format, unsigned width, unsigned height, VASurfaceID *ids, unsigned count, VASurfaceAttrib *list, unsigned attributes) {
    ENTER;
    return surface_create(driver, format, width, height, ids, count, list, attributes);
}

static VAStatus create_surfaces(VADriverContextP ctx, int width, int height, int format, int count, VASurfaceID *ids) {
    return create_surfaces2(ctx, (unsigned)format, (unsigned)width, (unsigned)height, ids, (unsigned)count, NULL, 0);
}

static VAStatus destroy_surfaces(VADriverContextP ctx, VASurfaceID *ids, int count) {
    ENTER;
    return surface_destroy(driver, ids, count);
}

static VAStatus query_surface_attributes(VADriverContextP ctx, VAConfigID id, VASurfaceAttrib *list, unsigned *count) {
    ENTER;
    struct config *config = LOOKUP(driver, configs, CONFIGS, id);
    return config ? surface_attributes(driver, config, list, count) : VA_STATUS_ERROR_INVALID_CONFIG;
}

static VAStatus sync_surface(VADriverContextP ctx, VASurfaceID id) {
    ENTER;
    driver_maybe_hang(driver);
    return LOOKUP(driver, surfaces, SURFACES, id) ? VA_STATUS_SUCCESS : VA_STATUS_ERROR_INVALID_SURFACE;
}

static VAStatus sync_surface2(VADriverContextP ctx, VASurfaceID id, uint64_t timeout) {
    (void)timeout;
    return sync_surface(ctx, id);
}

static VAStatus surface_status(VADriverContextP ctx, VASurfaceID id, VASurfaceStatus *status) {
    ENTER;
    *status = driver->mode.hang_after >= 0 && driver->frames > driver->mode.hang_after ? VASurfaceRendering : VASurfaceReady;
    return LOOKUP(driver, surfaces, SURFACES, id) ? VA_STATUS_SUCCESS : VA_STATUS_ERROR_INVALID_SURFACE;
}

/* Images. */

static VAStatus query_image_formats(VADriverContextP ctx, VAImageFormat *list, int *count) {
    (void)ctx;
    return image_formats(list, count);
}
static VAStatus create_image(VADriverContextP ctx, VAImageFormat *format, int width, int height, VAImage *out) {
    ENTER;
    return image_create(driver, format, (uint32_t)width, (uint32_t)height, out);
}
static VAStatus derive_image(VADriverContextP ctx, VASurfaceID id, VAImage *out) {
    ENTER;
    return image_derive(driver, id, out);
}
static VAStatus destroy_image(VADriverContextP ctx, VAImageID id) {
    ENTER;
    return image_destroy(driver, id);
}
static VAStatus get_image(VADriverContextP ctx, VASurfaceID surface, int x, int y, unsigned width, unsigned height, VAImageID image) {
    ENTER;
    VARectangle there = {(int16_t)x, (int16_t)y, (uint16_t)width, (uint16_t)height}, here = {0, 0, (uint16_t)width, (uint16_t)height};
    return image_copy(driver, surface, image, &there, &here, false);
}
static VAStatus put_image(VADriverContextP ctx, VASurfaceID surface, VAImageID image, int sx, int sy, unsigned sw, unsigned sh, int dx, int dy, unsigned dw, unsigned dh) {
    ENTER;
    VARectangle there = {(int16_t)dx, (int16_t)dy, (uint16_t)dw, (uint16_t)dh}, here = {(int16_t)sx, (int16_t)sy, (uint16_t)sw, (uint16_t)sh};
    return image_copy(driver, surface, image, &there, &here, true);
}

/* Video processing. */

static VAStatus query_filters(VADriverContextP ctx, VAContextID id, VAProcFilterType *list, unsigned *count) {
    (void)ctx, (void)id, (void)list;
    *count = 0;
    return VA_STATUS_SUCCESS;
}
static VAStatus query_filter_caps(VADriverContextP ctx, VAContextID id, VAProcFilterType type, void *caps, unsigned *count) {
    (void)ctx, (void)id, (void)type, (void)caps, (void)count;
    return VA_STATUS_ERROR_UNSUPPORTED_FILTER;
}
static VAStatus query_pipeline_caps(VADriverContextP ctx, VAContextID id, VABufferID *filters, unsigned count, VAProcPipelineCaps *caps) {
    static VAProcColorStandardType in[] = {VAProcColorStandardNone, VAProcColorStandardSRGB, VAProcColorStandardBT709};
    static VAProcColorStandardType out[] = {VAProcColorStandardBT709};
    (void)id, (void)filters, (void)count;
    ENTER;
    *caps = (VAProcPipelineCaps){.blend_flags = driver->mode.no_blend ? 0 : VA_BLEND_PREMULTIPLIED_ALPHA,
                                 .input_color_standards = in, .num_input_color_standards = 3,
                                 .output_color_standards = out, .num_output_color_standards = 1};
    return VA_STATUS_SUCCESS;
}

/* What nobody who encodes asks for. */
static VAStatus unimplemented(void) { return VA_STATUS_ERROR_UNIMPLEMENTED; }
#define NOT_HERE(function) *(void **)&table->function = (void *)unimplemented

static VAStatus no_subpictures(VADriverContextP ctx, VAImageFormat *list, unsigned *flags, unsigned *count) {
    (void)ctx, (void)list, (void)flags;
    *count = 0;
    return VA_STATUS_SUCCESS;
}
static VAStatus no_display_attributes(VADriverContextP ctx, VADisplayAttribute *list, int *count) {
    (void)ctx, (void)list;
    *count = 0;
    return VA_STATUS_SUCCESS;
}

static VAStatus terminate(VADriverContextP ctx) {
    struct driver *driver = driver_of(ctx);
    for (uint32_t i = 0; i < MAX_OBJECTS; i++) {
        VASurfaceID surface = SURFACES + i;
        if (driver->images[i]) destroy_image(ctx, IMAGES + i);
        if (driver->contexts[i]) ctx->vtable->vaDestroyContext(ctx, CONTEXTS + i);
        if (driver->configs[i]) ctx->vtable->vaDestroyConfig(ctx, CONFIGS + i);
        if (driver->buffers[i]) ctx->vtable->vaDestroyBuffer(ctx, BUFFERS + i);
        if (driver->surfaces[i]) destroy_surfaces(ctx, &surface, 1);
    }
    pthread_mutex_destroy(&driver->lock);
    free(driver);
    ctx->pDriverData = NULL;
    return VA_STATUS_SUCCESS;
}

/* libva looks for its own version first and then for every older one. */
EXPORT VAStatus __vaDriverInit_1_17(VADriverContextP ctx);
EXPORT VAStatus __vaDriverInit_1_17(VADriverContextP ctx) {
    struct driver *driver = calloc(1, sizeof *driver);
    if (!driver) return VA_STATUS_ERROR_ALLOCATION_FAILED;
    if (!mode_read(&driver->mode, getenv("TRANSOM_VA_MODE"))) {
        fprintf(stderr, "transom VA driver: TRANSOM_VA_MODE=%s has an unknown word\n", getenv("TRANSOM_VA_MODE"));
        free(driver);
        return VA_STATUS_ERROR_INVALID_PARAMETER;
    }
    pthread_mutexattr_t again;
    pthread_mutexattr_init(&again);
    pthread_mutexattr_settype(&again, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&driver->lock, &again);
    pthread_mutexattr_destroy(&again);
    ctx->pDriverData = driver;
    ctx->version_major = 1, ctx->version_minor = 17;
    ctx->max_profiles = 5, ctx->max_entrypoints = 2, ctx->max_attributes = 16;
    ctx->max_image_formats = 3, ctx->max_subpic_formats = 1, ctx->max_display_attributes = 1;
    ctx->str_vendor = "Transom software driver for tests";

    struct VADriverVTable *table = ctx->vtable;
    config_wire(table);
    buffer_wire(table);
    picture_wire(table);
    table->vaTerminate = terminate;
    table->vaCreateSurfaces = create_surfaces;
    table->vaCreateSurfaces2 = create_surfaces2;
    table->vaDestroySurfaces = destroy_surfaces;
    table->vaQuerySurfaceAttributes = query_surface_attributes;
    table->vaQuerySurfaceStatus = surface_status;
    table->vaSyncSurface = sync_surface;
    table->vaSyncSurface2 = sync_surface2;
    table->vaQueryImageFormats = query_image_formats;
    table->vaCreateImage = create_image;
    table->vaDeriveImage = derive_image;
    table->vaDestroyImage = destroy_image;
    table->vaGetImage = get_image;
    table->vaPutImage = put_image;
    table->vaQuerySubpictureFormats = no_subpictures;
    table->vaQueryDisplayAttributes = no_display_attributes;
    NOT_HERE(vaQuerySurfaceError);
    NOT_HERE(vaPutSurface);
    NOT_HERE(vaSetImagePalette);
    NOT_HERE(vaCreateSubpicture);
    NOT_HERE(vaDestroySubpicture);
    NOT_HERE(vaSetSubpictureImage);
    NOT_HERE(vaSetSubpictureChromakey);
    NOT_HERE(vaSetSubpictureGlobalAlpha);
    NOT_HERE(vaAssociateSubpicture);
    NOT_HERE(vaDeassociateSubpicture);
    NOT_HERE(vaGetDisplayAttributes);
    NOT_HERE(vaSetDisplayAttributes);
    NOT_HERE(vaExportSurfaceHandle);

    struct VADriverVTableVPP *vpp = ctx->vtable_vpp;
    vpp->version = VA_DRIVER_VTABLE_VPP_VERSION;
    vpp->vaQueryVideoProcFilters = query_filters;
    vpp->vaQueryVideoProcFilterCaps = query_filter_caps;
    vpp->vaQueryVideoProcPipelineCaps = query_pipeline_caps;
    return VA_STATUS_SUCCESS;
}
