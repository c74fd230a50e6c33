/* Buffers: parameters, and what was encoded. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

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
        driver_maybe_hang(driver);
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

void buffer_wire(struct VADriverVTable *table) {
    table->vaCreateBuffer = create_buffer;
    table->vaBufferSetNumElements = set_elements;
    table->vaMapBuffer = map_buffer;
    table->vaUnmapBuffer = unmap_buffer;
    table->vaDestroyBuffer = destroy_buffer;
    table->vaBufferInfo = buffer_info;
}
