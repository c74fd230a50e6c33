/* Contexts and their pictures: begun, described by buffers, ended, and then encoded or converted. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

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

/* What holds for this picture alone; everything else is the rate's. */
static VAStatus take_misc(struct context *context, const struct buffer *buffer) {
    struct job *job = &context->job;
    size_t size = (size_t)buffer->size * buffer->count;
    const uint8_t *data = buffer->data + sizeof(uint32_t);
    VAEncMiscParameterBufferROI roi;
    uint32_t type;
    memcpy(&type, buffer->data, sizeof type);
    switch (type) {
    case VAEncMiscParameterTypeRIR:
        if (size < sizeof type + sizeof job->refresh) return VA_STATUS_ERROR_INVALID_BUFFER;
        memcpy(&job->refresh, data, sizeof job->refresh);
        break;
    case VAEncMiscParameterTypeROI:
        if (size < sizeof type + sizeof roi) return VA_STATUS_ERROR_INVALID_BUFFER;
        memcpy(&roi, data, sizeof roi);
        if (roi.num_roi > MAX_REGIONS || (roi.num_roi && !roi.roi)) return VA_STATUS_ERROR_INVALID_PARAMETER;
        /* Less important ones are as good as none: whatever is left goes to the first that come. */
        for (uint32_t i = 0; i < roi.num_roi; i++)
            if ((roi.roi_flags.bits.roi_value_is_qp_delta || context->config.rate_control == VA_RC_CQP) == (roi.roi[i].roi_value < 0))
                job->regions[job->region_count++ % MAX_REGIONS] = roi.roi[i].roi_rectangle;
        break;
    default: rate_take(context, buffer);
    }
    return VA_STATUS_SUCCESS;
}

static VAStatus render_one(struct context *context, const struct buffer *buffer) {
    struct job *job = &context->job;
    size_t size = (size_t)buffer->size * buffer->count;
#define NEED(type) if (size < sizeof(type)) return VA_STATUS_ERROR_INVALID_BUFFER
    switch (buffer->type) {
    case VAEncSequenceParameterBufferType:
        if (hevc_is(context)) {
            NEED(VAEncSequenceParameterBufferHEVC);
            memcpy(&context->hevc_sequence, buffer->data, sizeof context->hevc_sequence);
            context->has_sequence = job->has_sequence = true;
            break;
        }
        NEED(VAEncSequenceParameterBufferH264);
        memcpy(&context->sequence, buffer->data, sizeof context->sequence);
        context->has_sequence = job->has_sequence = true;
        break;
    case VAEncPictureParameterBufferType:
        if (hevc_is(context)) {
            NEED(VAEncPictureParameterBufferHEVC);
            memcpy(&job->hevc_picture, buffer->data, sizeof job->hevc_picture);
            job->has_picture = true;
            break;
        }
        NEED(VAEncPictureParameterBufferH264);
        memcpy(&job->picture, buffer->data, sizeof job->picture);
        job->has_picture = true;
        break;
    case VAEncSliceParameterBufferType: {
        size_t each = hevc_is(context) ? sizeof *job->hevc_slices : sizeof *job->slices;
        if (buffer->size < each) return VA_STATUS_ERROR_INVALID_BUFFER;
        for (unsigned i = 0; i < buffer->count; i++) {
            if (job->slice_count == MAX_SLICES) return VA_STATUS_ERROR_INVALID_PARAMETER;
            unsigned slice = job->slice_count++;
            void *to = hevc_is(context) ? (void *)&job->hevc_slices[slice] : (void *)&job->slices[slice];
            memcpy(to, buffer->data + (size_t)i * buffer->size, each);
        }
        break;
    }
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
    case VAEncMiscParameterBufferType:
        NEED(uint32_t);
        return take_misc(context, buffer);
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

void picture_wire(struct VADriverVTable *table) {
    table->vaCreateContext = create_context;
    table->vaDestroyContext = destroy_context;
    table->vaBeginPicture = begin_picture;
    table->vaRenderPicture = render_picture;
    table->vaEndPicture = end_picture;
}
