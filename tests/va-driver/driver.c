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

static struct driver *of(VADriverContextP ctx) { return ctx->pDriverData; }

/* Every call holds the driver's only lock: it is no race that is tested here. */
static void unlock(struct driver **driver) { pthread_mutex_unlock(&(*driver)->lock); }
#define ENTER                                                              \
    struct driver *driver __attribute__((cleanup(unlock))) = of(ctx);      \
    pthread_mutex_lock(&driver->lock)

/* A stuck GPU: the call never returns. */
static void maybe_hang(struct driver *driver) {
    while (driver->mode.hang_after >= 0 && driver->frames > driver->mode.hang_after) pause();
}

/* Configurations. */

static bool has_profile(const struct driver *driver, VAProfile profile) {
    switch (profile) {
    case VAProfileNone: return !driver->mode.no_vpp;
    case VAProfileH264ConstrainedBaseline: return !driver->mode.main_high;
    case VAProfileH264Main: case VAProfileH264High: return true;
    default: return false;
    }
}

static VAStatus query_profiles(VADriverContextP ctx, VAProfile *list, int *count) {
    static const VAProfile all[] = {VAProfileNone, VAProfileH264ConstrainedBaseline, VAProfileH264Main, VAProfileH264High};
    ENTER;
    *count = 0;
    for (unsigned i = 0; i < 4; i++) if (has_profile(driver, all[i])) list[(*count)++] = all[i];
    return VA_STATUS_SUCCESS;
}

static VAStatus query_entrypoints(VADriverContextP ctx, VAProfile profile, VAEntrypoint *list, int *count) {
    ENTER;
    *count = 0;
    if (!has_profile(driver, profile)) return VA_STATUS_ERROR_UNSUPPORTED_PROFILE;
    list[(*count)++] = profile == VAProfileNone ? VAEntrypointVideoProc :
                       driver->mode.no_encode ? VAEntrypointVLD :
                       driver->mode.low_power ? VAEntrypointEncSliceLP : VAEntrypointEncSlice;
    return VA_STATUS_SUCCESS;
}

static bool has_entrypoint(const struct driver *driver, VAProfile profile, VAEntrypoint entrypoint) {
    if (!has_profile(driver, profile)) return false;
    if (profile == VAProfileNone) return entrypoint == VAEntrypointVideoProc;
    return !driver->mode.no_encode && entrypoint == (driver->mode.low_power ? VAEntrypointEncSliceLP : VAEntrypointEncSlice);
}

static VAStatus get_attributes(VADriverContextP ctx, VAProfile profile, VAEntrypoint entrypoint, VAConfigAttrib *list, int count) {
    ENTER;
    if (!has_profile(driver, profile)) return VA_STATUS_ERROR_UNSUPPORTED_PROFILE;
    if (!has_entrypoint(driver, profile, entrypoint)) return VA_STATUS_ERROR_UNSUPPORTED_ENTRYPOINT;
    bool encodes = profile != VAProfileNone;
    for (int i = 0; i < count; i++) {
        uint32_t value = VA_ATTRIB_NOT_SUPPORTED;
        switch (list[i].type) {
        case VAConfigAttribRTFormat:
            value = VA_RT_FORMAT_YUV420 | (encodes || driver->mode.no_bgrx ? 0 : VA_RT_FORMAT_RGB32);
            break;
        case VAConfigAttribMaxPictureWidth: case VAConfigAttribMaxPictureHeight: value = MAX_EDGE; break;
        default: break;
        }
        if (encodes) switch (list[i].type) {
        case VAConfigAttribRateControl: value = VA_RC_CQP | VA_RC_CBR | VA_RC_VBR; break;
        case VAConfigAttribEncPackedHeaders:
            value = driver->mode.own_headers ? VA_ENC_PACKED_HEADER_NONE :
                    VA_ENC_PACKED_HEADER_SEQUENCE | VA_ENC_PACKED_HEADER_PICTURE | VA_ENC_PACKED_HEADER_SLICE |
                    VA_ENC_PACKED_HEADER_MISC | VA_ENC_PACKED_HEADER_RAW_DATA;
            break;
        case VAConfigAttribEncMaxRefFrames: value = 1; break;
        case VAConfigAttribMaxFrameSize: value = 1; break;
        case VAConfigAttribEncMaxSlices: value = MAX_SLICES; break;
        case VAConfigAttribEncSliceStructure: value = VA_ENC_SLICE_STRUCTURE_ARBITRARY_MACROBLOCKS; break;
        default: break;
        }
        list[i].value = value;
    }
    return VA_STATUS_SUCCESS;
}

static VAStatus create_config(VADriverContextP ctx, VAProfile profile, VAEntrypoint entrypoint, VAConfigAttrib *list, int count, VAConfigID *id) {
    ENTER;
    if (!has_profile(driver, profile)) return VA_STATUS_ERROR_UNSUPPORTED_PROFILE;
    if (!has_entrypoint(driver, profile, entrypoint)) return VA_STATUS_ERROR_UNSUPPORTED_ENTRYPOINT;
    struct config *config = calloc(1, sizeof *config);
    if (!config) return VA_STATUS_ERROR_ALLOCATION_FAILED;
    *config = (struct config){profile, entrypoint, VA_RC_CQP, 0};
    for (int i = 0; i < count; i++) {
        if (list[i].type == VAConfigAttribRateControl) config->rate_control = list[i].value;
        if (list[i].type == VAConfigAttribEncPackedHeaders) config->packed_headers = list[i].value;
    }
    int index = -1;
    if (!(driver->mode.own_headers && config->packed_headers)) index = table_put((void **)driver->configs, config);
    if (index < 0) {
        free(config);
        return VA_STATUS_ERROR_ATTR_NOT_SUPPORTED;
    }
    *id = CONFIGS + (uint32_t)index;
    return VA_STATUS_SUCCESS;
}

static VAStatus destroy_config(VADriverContextP ctx, VAConfigID id) {
    ENTER;
    struct config *config = LOOKUP(driver, configs, CONFIGS, id);
    if (!config) return VA_STATUS_ERROR_INVALID_CONFIG;
    driver->configs[id - CONFIGS] = NULL;
    free(config);
    return VA_STATUS_SUCCESS;
}

static VAStatus query_config(VADriverContextP ctx, VAConfigID id, VAProfile *profile, VAEntrypoint *entrypoint, VAConfigAttrib *list, int *count) {
    ENTER;
    struct config *config = LOOKUP(driver, configs, CONFIGS, id);
    if (!config) return VA_STATUS_ERROR_INVALID_CONFIG;
    *profile = config->profile;
    *entrypoint = config->entrypoint;
    list[0] = (VAConfigAttrib){VAConfigAttribRTFormat, VA_RT_FORMAT_YUV420};
    *count = 1;
    return VA_STATUS_SUCCESS;
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
    maybe_hang(driver);
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

/* Buffers. */

static VAStatus create_buffer(VADriverContextP ctx, VAContextID context, VABufferType type, unsigned size, unsigned count, void *data, VABufferID *id) {
    (void)context;
    ENTER;
    uint64_t bytes = (uint64_t)size * count;
    if (!bytes || bytes > 1u << 30) return VA_STATUS_ERROR_INVALID_PARAMETER;
    struct buffer *buffer = calloc(1, sizeof *buffer);
    uint8_t *memory = calloc(1, bytes);
    int index = buffer && memory ? table_put((void **)driver->buffers, buffer) : -1;
    if (index < 0) {
        free(buffer);
        free(memory);
        return VA_STATUS_ERROR_ALLOCATION_FAILED;
    }
    *buffer = (struct buffer){.type = type, .size = size, .count = count, .data = memory, .of_surface = VA_INVALID_ID};
    buffer->segment.buf = memory;
    if (data) memcpy(memory, data, bytes);
    *id = BUFFERS + (uint32_t)index;
    return VA_STATUS_SUCCESS;
}

static VAStatus set_elements(VADriverContextP ctx, VABufferID id, unsigned count) {
    (void)ctx, (void)id, (void)count;
    return VA_STATUS_ERROR_UNIMPLEMENTED;
}

static VAStatus map_buffer(VADriverContextP ctx, VABufferID id, void **data) {
    ENTER;
    struct buffer *buffer = LOOKUP(driver, buffers, BUFFERS, id);
    if (!buffer) return VA_STATUS_ERROR_INVALID_BUFFER;
    if (buffer->type == VAEncCodedBufferType) {
        maybe_hang(driver);
        *data = &buffer->segment;
        return VA_STATUS_SUCCESS;
    }
    *data = buffer->data;
    if (buffer->of_surface != VA_INVALID_ID) {
        struct surface *surface = LOOKUP(driver, surfaces, SURFACES, buffer->of_surface);
        if (!surface) return VA_STATUS_ERROR_INVALID_BUFFER;
        surface_begin_cpu(surface, true);
        *data = surface->pixels.data;
    }
    return VA_STATUS_SUCCESS;
}

static VAStatus unmap_buffer(VADriverContextP ctx, VABufferID id) {
    ENTER;
    struct buffer *buffer = LOOKUP(driver, buffers, BUFFERS, id);
    if (!buffer) return VA_STATUS_ERROR_INVALID_BUFFER;
    struct surface *surface = LOOKUP(driver, surfaces, SURFACES, buffer->of_surface);
    if (surface) surface_end_cpu(surface, true);
    return VA_STATUS_SUCCESS;
}

static VAStatus destroy_buffer(VADriverContextP ctx, VABufferID id) {
    ENTER;
    struct buffer *buffer = LOOKUP(driver, buffers, BUFFERS, id);
    if (!buffer) return VA_STATUS_ERROR_INVALID_BUFFER;
    driver->buffers[id - BUFFERS] = NULL;
    free(buffer->data);
    free(buffer);
    return VA_STATUS_SUCCESS;
}

static VAStatus buffer_info(VADriverContextP ctx, VABufferID id, VABufferType *type, unsigned *size, unsigned *count) {
    ENTER;
    struct buffer *buffer = LOOKUP(driver, buffers, BUFFERS, id);
    if (!buffer) return VA_STATUS_ERROR_INVALID_BUFFER;
    *type = buffer->type, *size = buffer->size, *count = buffer->count;
    return VA_STATUS_SUCCESS;
}

/* Pictures. */

static void clear_job(struct job *job) {
    for (unsigned i = 0; i < job->packed_count; i++) free(job->packed[i].data);
    memset(job, 0, sizeof *job);
}

static VAStatus create_context(VADriverContextP ctx, VAConfigID id, int width, int height, int flag, VASurfaceID *targets, int count, VAContextID *out) {
    (void)flag, (void)targets, (void)count;
    ENTER;
    struct config *config = LOOKUP(driver, configs, CONFIGS, id);
    if (!config) return VA_STATUS_ERROR_INVALID_CONFIG;
    struct context *context = calloc(1, sizeof *context);
    int index = context ? table_put((void **)driver->contexts, context) : -1;
    if (index < 0) {
        free(context);
        return VA_STATUS_ERROR_ALLOCATION_FAILED;
    }
    context->config = *config;
    context->width = (uint32_t)width, context->height = (uint32_t)height;
    *out = CONTEXTS + (uint32_t)index;
    return VA_STATUS_SUCCESS;
}

static VAStatus destroy_context(VADriverContextP ctx, VAContextID id) {
    ENTER;
    struct context *context = LOOKUP(driver, contexts, CONTEXTS, id);
    if (!context) return VA_STATUS_ERROR_INVALID_CONTEXT;
    driver->contexts[id - CONTEXTS] = NULL;
    clear_job(&context->job);
    free(context->source.coded);
    free(context);
    return VA_STATUS_SUCCESS;
}

static VAStatus begin_picture(VADriverContextP ctx, VAContextID id, VASurfaceID target) {
    ENTER;
    struct context *context = LOOKUP(driver, contexts, CONTEXTS, id);
    if (!context) return VA_STATUS_ERROR_INVALID_CONTEXT;
    if (!LOOKUP(driver, surfaces, SURFACES, target)) return VA_STATUS_ERROR_INVALID_SURFACE;
    clear_job(&context->job);
    context->job.target = target;
    return VA_STATUS_SUCCESS;
}

static VAStatus take_packed(struct job *job, const struct buffer *buffer) {
    if (job->packed_count == MAX_PACKED || !job->expects_data) return VA_STATUS_ERROR_INVALID_PARAMETER;
    size_t size = (size_t)buffer->size * buffer->count;
    uint8_t *data = malloc(size);
    if (!data) return VA_STATUS_ERROR_ALLOCATION_FAILED;
    memcpy(data, buffer->data, size);
    job->packed[job->packed_count++] = (struct packed){job->next_type, job->next_bits, job->next_escaped, data, size};
    job->expects_data = false;
    return VA_STATUS_SUCCESS;
}

static VAStatus render_one(struct context *context, const struct buffer *buffer) {
    struct job *job = &context->job;
    size_t size = (size_t)buffer->size * buffer->count;
#define NEED(type) if (size < sizeof(type)) return VA_STATUS_ERROR_INVALID_BUFFER
    switch (buffer->type) {
    case VAEncSequenceParameterBufferType:
        NEED(VAEncSequenceParameterBufferH264);
        memcpy(&context->sequence, buffer->data, sizeof context->sequence);
        context->has_sequence = job->has_sequence = true;
        break;
    case VAEncPictureParameterBufferType:
        NEED(VAEncPictureParameterBufferH264);
        memcpy(&job->picture, buffer->data, sizeof job->picture);
        job->has_picture = true;
        break;
    case VAEncSliceParameterBufferType:
        NEED(VAEncSliceParameterBufferH264);
        for (unsigned i = 0; i < buffer->count; i++) {
            if (job->slice_count == MAX_SLICES) return VA_STATUS_ERROR_INVALID_PARAMETER;
            memcpy(&job->slices[job->slice_count++], buffer->data + (size_t)i * buffer->size, sizeof *job->slices);
        }
        break;
    case VAEncPackedHeaderParameterBufferType: {
        NEED(VAEncPackedHeaderParameterBuffer);
        VAEncPackedHeaderParameterBuffer header;
        memcpy(&header, buffer->data, sizeof header);
        job->next_type = header.type, job->next_bits = header.bit_length;
        job->next_escaped = header.has_emulation_bytes, job->expects_data = true;
        break;
    }
    case VAEncPackedHeaderDataBufferType: return take_packed(job, buffer);
    case VAProcPipelineParameterBufferType:
        NEED(VAProcPipelineParameterBuffer);
        if (job->pipeline_count == 8) return VA_STATUS_ERROR_INVALID_PARAMETER;
        memcpy(&job->pipelines[job->pipeline_count++], buffer->data, sizeof *job->pipelines);
        break;
    case VAEncMiscParameterBufferType: {
        /* Of all rates the HRD and the limit: they say what a frame may take. */
        VAEncMiscParameterHRD hrd;
        VAEncMiscParameterBufferMaxFrameSize most;
        uint32_t type;
        NEED(uint32_t);
        memcpy(&type, buffer->data, sizeof type);
        if (type == VAEncMiscParameterTypeMaxFrameSize && size >= sizeof type + sizeof most) {
            memcpy(&most, buffer->data + sizeof type, sizeof most);
            context->most_bits = most.max_frame_size;
        }
        if (type != VAEncMiscParameterTypeHRD || size < sizeof type + sizeof hrd) break;
        memcpy(&hrd, buffer->data + sizeof type, sizeof hrd);
        context->frame_bits = hrd.buffer_size;
        break;
    }
    default: return VA_STATUS_ERROR_UNSUPPORTED_BUFFERTYPE;
    }
    return VA_STATUS_SUCCESS;
}

static VAStatus render_picture(VADriverContextP ctx, VAContextID id, VABufferID *buffers, int count) {
    ENTER;
    struct context *context = LOOKUP(driver, contexts, CONTEXTS, id);
    if (!context) return VA_STATUS_ERROR_INVALID_CONTEXT;
    for (int i = 0; i < count; i++) {
        struct buffer *buffer = LOOKUP(driver, buffers, BUFFERS, buffers[i]);
        VAStatus status = buffer && buffer->data ? render_one(context, buffer) : VA_STATUS_ERROR_INVALID_BUFFER;
        if (status != VA_STATUS_SUCCESS) return status;
    }
    return VA_STATUS_SUCCESS;
}

static VAStatus end_picture(VADriverContextP ctx, VAContextID id) {
    ENTER;
    struct context *context = LOOKUP(driver, contexts, CONTEXTS, id);
    if (!context) return VA_STATUS_ERROR_INVALID_CONTEXT;
    VAStatus status = VA_STATUS_SUCCESS;
    if (context->config.entrypoint == VAEntrypointVideoProc) {
        struct surface *target = LOOKUP(driver, surfaces, SURFACES, context->job.target);
        if (!target || !context->job.pipeline_count) status = VA_STATUS_ERROR_INVALID_PARAMETER;
        else status = vpp_run(driver, context->job.pipelines, context->job.pipeline_count, target);
    } else {
        status = encode_run(driver, context);
    }
    clear_job(&context->job);
    return status;
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
    struct driver *driver = of(ctx);
    for (uint32_t i = 0; i < MAX_OBJECTS; i++) {
        VASurfaceID surface = SURFACES + i;
        if (driver->images[i]) destroy_image(ctx, IMAGES + i);
        if (driver->contexts[i]) destroy_context(ctx, CONTEXTS + i);
        if (driver->configs[i]) destroy_config(ctx, CONFIGS + i);
        if (driver->buffers[i]) destroy_buffer(ctx, BUFFERS + i);
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
    ctx->max_profiles = 4, ctx->max_entrypoints = 2, ctx->max_attributes = 16;
    ctx->max_image_formats = 3, ctx->max_subpic_formats = 1, ctx->max_display_attributes = 1;
    ctx->str_vendor = "Transom software driver for tests";

    struct VADriverVTable *table = ctx->vtable;
    table->vaTerminate = terminate;
    table->vaQueryConfigProfiles = query_profiles;
    table->vaQueryConfigEntrypoints = query_entrypoints;
    table->vaGetConfigAttributes = get_attributes;
    table->vaCreateConfig = create_config;
    table->vaDestroyConfig = destroy_config;
    table->vaQueryConfigAttributes = query_config;
    table->vaCreateSurfaces = create_surfaces;
    table->vaCreateSurfaces2 = create_surfaces2;
    table->vaDestroySurfaces = destroy_surfaces;
    table->vaQuerySurfaceAttributes = query_surface_attributes;
    table->vaQuerySurfaceStatus = surface_status;
    table->vaSyncSurface = sync_surface;
    table->vaSyncSurface2 = sync_surface2;
    table->vaCreateContext = create_context;
    table->vaDestroyContext = destroy_context;
    table->vaCreateBuffer = create_buffer;
    table->vaBufferSetNumElements = set_elements;
    table->vaMapBuffer = map_buffer;
    table->vaUnmapBuffer = unmap_buffer;
    table->vaDestroyBuffer = destroy_buffer;
    table->vaBufferInfo = buffer_info;
    table->vaBeginPicture = begin_picture;
    table->vaRenderPicture = render_picture;
    table->vaEndPicture = end_picture;
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
