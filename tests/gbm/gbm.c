/* libgbm in software, for tests: detiles Intel's X tiling, and misbehaves when told to.
 *
 * No driver at hand here has a tiled layout in software: Mesa's own software drivers are linear. This
 * one has the layout of I915_FORMAT_MOD_X_TILED (drm_fourcc.h): tiles of 512 bytes by 8 rows, row by
 * row in each, tiles from left to right; a pitch is that of a row of tiles divided by its rows.
 * TRANSOM_GBM_MODE: refuse-device, refuse-import, refuse-map, lying-stride, crash, hang,
 * hang-after=N, crash-after=N. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LINEAR 0
#define X_TILED (1ull << 56 | 1)
#define TILE_BYTES 512
#define TILE_ROWS 8
/* What a row of the view has behind its pixels: views need not be without gaps. */
#define SLACK 192

struct import_data {
    uint32_t width, height, format, num_fds;
    int fds[4], strides[4], offsets[4];
    uint64_t modifier;
};

struct gbm_device { int fd; };
struct gbm_bo { int fd; uint32_t width, height, stride, offset; uint64_t modifier; };

static int is(const char *what) {
    const char *mode = getenv("TRANSOM_GBM_MODE");
    return mode && !strcmp(mode, what);
}

static void misbehave(void) {
    static int maps;
    const char *mode = getenv("TRANSOM_GBM_MODE");
    int after = 0;
    maps++;
    if (!mode) return;
    if (is("crash") || (sscanf(mode, "crash-after=%d", &after) == 1 && maps > after)) abort();
    if (is("hang") || (sscanf(mode, "hang-after=%d", &after) == 1 && maps > after))
        for (;;) pause();
}

struct gbm_device *gbm_create_device(int fd) {
    if (is("refuse-device")) { errno = ENODEV; return NULL; }
    struct gbm_device *device = calloc(1, sizeof *device);
    device->fd = fd;
    return device;
}

void gbm_device_destroy(struct gbm_device *device) { free(device); }

const char *gbm_device_get_backend_name(struct gbm_device *device) { (void)device; return "software\n"; }

struct gbm_bo *gbm_bo_import(struct gbm_device *device, uint32_t kind, void *buffer, uint32_t flags) {
    const struct import_data *data = buffer;
    (void)device;
    if (kind != 0x5504 || flags != 0 || is("refuse-import") || data->num_fds != 1 ||
        (data->modifier != LINEAR && data->modifier != X_TILED)) {
        errno = EINVAL;
        return NULL;
    }
    struct gbm_bo *bo = calloc(1, sizeof *bo);
    *bo = (struct gbm_bo){dup(data->fds[0]), data->width, data->height, data->strides[0],
                          data->offsets[0], data->modifier};
    return bo;
}

void gbm_bo_destroy(struct gbm_bo *bo) { close(bo->fd); free(bo); }

void *gbm_bo_map(struct gbm_bo *bo, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                 uint32_t flags, uint32_t *stride, void **map_data) {
    misbehave();
    if (x || y || width != bo->width || height != bo->height || flags != 1 || *map_data || is("refuse-map")) {
        errno = EINVAL;
        return NULL;
    }
    size_t whole = lseek(bo->fd, 0, SEEK_END), row = width * 4;
    const uint8_t *from = mmap(NULL, whole, PROT_READ, MAP_SHARED, bo->fd, 0);
    if (from == MAP_FAILED) return NULL;
    uint8_t *to = malloc((row + SLACK) * height);
    for (size_t j = 0; j < height; j++)
        for (size_t i = 0; i < row; i++) {
            size_t at = j * bo->stride + i;
            if (bo->modifier == X_TILED)
                at = j / TILE_ROWS * TILE_ROWS * bo->stride + i / TILE_BYTES * TILE_BYTES * TILE_ROWS +
                     j % TILE_ROWS * TILE_BYTES + i % TILE_BYTES;
            to[j * (row + SLACK) + i] = from[bo->offset + at];
        }
    munmap((void *)from, whole);
    *stride = is("lying-stride") ? row - 1 : row + SLACK;
    return *map_data = to;
}

void gbm_bo_unmap(struct gbm_bo *bo, void *map_data) { (void)bo; free(map_data); }
