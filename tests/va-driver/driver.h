/* What the files of the software VA driver share: its objects and who makes them. */
#ifndef TRANSOM_VA_DRIVER_H
#define TRANSOM_VA_DRIVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <va/va_backend.h>
#include <va/va_backend_vpp.h>
#include <va/va_drmcommon.h>
#include <va/va_enc_h264.h>
#include <va/va_enc_hevc.h>
#include <va/va_vpp.h>

#define EXPORT __attribute__((visibility("default")))

/* Objects of each kind; ids are indexes into the tables plus a base that tells the kinds apart. */
enum { MAX_OBJECTS = 1024 };
enum { CONFIGS = 0x01000000, CONTEXTS = 0x02000000, SURFACES = 0x04000000, BUFFERS = 0x08000000, IMAGES = 0x10000000 };

/* Wider or higher surfaces are refused, as every real driver does. */
enum { MAX_EDGE = 8192 };
/* What one picture may hand over. */
enum { MAX_SLICES = 64, MAX_PACKED = 32, MAX_REGIONS = 8 };

/* How the driver behaves, from the environment: see mode.c. */
struct mode {
    bool own_headers;  /* takes no packed headers and writes an SPS and PPS of its own */
    bool low_power;    /* EncSliceLP is the only entrypoint */
    bool main_high;    /* no Constrained Baseline */
    bool no_import;    /* no dma-buf is taken */
    bool no_bgrx;      /* video processing takes no RGB */
    bool no_blend;     /* ... and lays nothing over its input */
    bool no_vpp;       /* no video processing at all */
    bool no_derive;    /* vaDeriveImage is refused */
    bool paced;        /* keeps an HRD of the caller's: what does not fit comes with later frames */
    bool capped;       /* keeps no HRD, but to the size that a frame may have at most */
    bool refresh;      /* refreshes columns or rows of macroblocks on request */
    bool roi;          /* knows regions of interest */
    bool drops_sei;    /* forgets packed headers that are no parameter sets and no slices */
    bool idle;         /* does no work at all for P pictures and conversions: all that is left is its client's */
    bool no_encode;    /* decodes only, or so it says */
    bool no_hevc;      /* knows H.264 alone */
    bool no_pcm;       /* HEVC without I_PCM: the mean of each block is all that is coded */
    bool both_lists;   /* HEVC in B slices whose lists have the same picture in them, never in P slices */
    bool lying_pitch;  /* derived images claim to be larger than their buffer */
    bool wrong_size;   /* its own SPS forgets the cropping */
    long fail_after;   /* frames until vaEndPicture fails; -1: never */
    long hang_after;   /* ... until nothing returns any more */
    long garbage_after;/* ... until random bytes come out */
    long empty_after;  /* ... until coded buffers stay empty */
    long overflow_after; /* ... until coded buffers claim to overflow */
    long crash_after;  /* ... until the process dies */
};

struct config {
    VAProfile profile;
    VAEntrypoint entrypoint;
    uint32_t rate_control;
    uint32_t packed_headers;
};

/* A picture in memory: NV12, or one plane of 32-bit pixels. */
struct pixels {
    uint32_t fourcc;
    uint32_t width, height;
    uint32_t pitches[2], offsets[2];
    uint8_t *data;
    size_t size;
};

struct surface {
    struct pixels pixels;
    int dmabuf;       /* whose memory it is; -1: the driver's own */
    uint8_t *coded;   /* what a decoder has after this picture: NV12, whole macroblocks, no gaps */
    uint32_t columns, rows; /* macroblocks of that */
    VAImageID derived;
};

struct buffer {
    VABufferType type;
    uint32_t size, count;
    uint8_t *data;
    VASurfaceID of_surface; /* of a derived image: the memory is the surface's */
    VACodedBufferSegment segment;
    uint32_t used; /* of a coded buffer */
};

struct image {
    VAImage image;
    VASurfaceID of_surface;
};

struct packed {
    uint32_t type;
    uint32_t bits;
    bool escaped;
    uint8_t *data;
    size_t size;
};

/* The picture between vaBeginPicture and vaEndPicture. */
struct job {
    VASurfaceID target;
    bool has_sequence, has_picture;
    VAEncPictureParameterBufferH264 picture;
    VAEncSliceParameterBufferH264 slices[MAX_SLICES];
    VAEncPictureParameterBufferHEVC hevc_picture;
    VAEncSliceParameterBufferHEVC hevc_slices[MAX_SLICES];
    unsigned slice_count;
    struct packed packed[MAX_PACKED];
    unsigned packed_count;
    uint32_t next_type, next_bits; /* of a packed header whose data follows */
    bool next_escaped, expects_data;
    VAEncMiscParameterRIR refresh; /* what has to be intra in this picture */
    VARectangle regions[MAX_REGIONS]; /* what matters most in it */
    unsigned region_count;
    VAProcPipelineParameterBuffer pipelines[8];
    unsigned pipeline_count;
};

struct context {
    struct config config;
    uint32_t width, height;
    struct surface source; /* the picture at work on, as whole macroblocks */
    VAEncSequenceParameterBufferH264 sequence; /* stays in force until the next */
    VAEncSequenceParameterBufferHEVC hevc_sequence;
    bool has_sequence;
    struct job job;
    uint32_t own_frame_num, own_idr; /* for headers of the driver's own */
    uint32_t bits_per_second, frames_per_second;
    uint32_t hrd_bits, most_bits; /* the size of the HRD, and of the largest frame; 0: not told */
    int64_t credit;       /* bits that the HRD has left for the next frame */
    uint32_t turn;        /* the macroblock from which the next frame may spend them */
};

struct driver {
    pthread_mutex_t lock;
    struct mode mode;
    long frames;
    struct config *configs[MAX_OBJECTS];
    struct context *contexts[MAX_OBJECTS];
    struct surface *surfaces[MAX_OBJECTS];
    struct buffer *buffers[MAX_OBJECTS];
    struct image *images[MAX_OBJECTS];
};

/* mode.c */
bool mode_read(struct mode *mode, const char *text);

/* driver.c */
int table_put(void **table, void *object);
void *table_at(void **table, uint32_t base, uint32_t id);
#define LOOKUP(driver, kind, base, id) table_at((void **)(driver)->kind, base, id)

static inline struct driver *driver_of(VADriverContextP ctx) { return ctx->pDriverData; }
/* Every call holds the driver's only lock: it is no race that is tested here. */
static inline void driver_unlock(struct driver **driver) { pthread_mutex_unlock(&(*driver)->lock); }
#define ENTER                                                                     \
    struct driver *driver __attribute__((cleanup(driver_unlock))) = driver_of(ctx); \
    pthread_mutex_lock(&driver->lock)
/* A stuck GPU: the call never returns. */
void driver_maybe_hang(struct driver *);

/* config.c, buffer.c, picture.c: calls of libva that they answer. */
void config_wire(struct VADriverVTable *);
void buffer_wire(struct VADriverVTable *);
void picture_wire(struct VADriverVTable *);

/* surface.c */
VAStatus surface_create(struct driver *, uint32_t format, uint32_t width, uint32_t height, VASurfaceID *ids,
                        unsigned count, VASurfaceAttrib *attributes, unsigned attribute_count);
VAStatus surface_destroy(struct driver *, VASurfaceID *ids, int count);
VAStatus surface_attributes(struct driver *, const struct config *, VASurfaceAttrib *list, unsigned *count);
void surface_begin_cpu(const struct surface *, bool write);
void surface_end_cpu(const struct surface *, bool write);
uint32_t pixels_layout(struct pixels *, uint32_t fourcc, uint32_t width, uint32_t height);

/* image.c */
VAStatus image_formats(VAImageFormat *list, int *count);
VAStatus image_create(struct driver *, const VAImageFormat *, uint32_t width, uint32_t height, VAImage *out);
VAStatus image_derive(struct driver *, VASurfaceID, VAImage *out);
VAStatus image_destroy(struct driver *, VAImageID);
VAStatus image_copy(struct driver *, VASurfaceID, VAImageID, const VARectangle *surface_part,
                    const VARectangle *image_part, bool to_surface);

/* vpp.c */
bool vpp_takes(const struct driver *, uint32_t fourcc);
VAStatus vpp_run(struct driver *, const VAProcPipelineParameterBuffer *, unsigned count, struct surface *target);

/* bits.c */
struct bits {
    uint8_t *bytes;
    size_t length, capacity;
    uint32_t hold;
    unsigned held;
    bool failed;
};
void bits_put(struct bits *, unsigned count, uint32_t value);
void bits_ue(struct bits *, uint32_t value);
void bits_se(struct bits *, int32_t value);
void bits_align(struct bits *, unsigned bit);
void bits_bytes(struct bits *, const uint8_t *data, size_t size);
void bits_free(struct bits *);
/* Appends the payload with emulation prevention; false when it does not fit. */
bool bits_escape(const uint8_t *payload, size_t size, uint8_t *out, size_t *used, size_t room);
/* Copies a NAL unit's bytes without emulation prevention; yields their number. */
size_t bits_unescape(const uint8_t *in, size_t size, uint8_t *out);

/* headers.c: those that the caller did not send, or that the driver prefers to its own liking. */
struct own_headers {
    uint8_t profile, level;
    uint32_t frame_num_bits, poc_type, poc_bits;
    bool crop, deblocking_control;
};
void headers_sps(struct bits *, const struct context *, const struct own_headers *);
void headers_pps(struct bits *, const struct context *, const struct own_headers *);
void headers_slice(struct bits *, const struct context *, const struct own_headers *,
                   const VAEncSliceParameterBufferH264 *, uint32_t frame_num, uint32_t idr_id);

/* slice.c: what becomes of each macroblock. */
struct coding {
    const struct surface *source, *reference;
    struct surface *out;  /* what a decoder will have */
    uint32_t first, count;
    bool inter;
    int qp;
    unsigned init_idc;
    uint8_t *raw;         /* of each macroblock: it was I_PCM */
    const uint8_t *flat;  /* of each macroblock: it has to do without samples; NULL: none has to */
    const VAEncMiscParameterRIR *refresh; /* what has to be intra */
};
/* Whether a macroblock has to be intra. */
bool slice_refreshes(const struct coding *, uint32_t at);
void slice_cavlc(struct bits *, struct coding *);
bool slice_cabac(struct bits *, struct coding *);
bool slice_same(const struct surface *, const struct surface *, uint32_t x, uint32_t y);
void slice_keep(const struct surface *from, struct surface *to, uint32_t x, uint32_t y);

/* encode.c */
VAStatus encode_run(struct driver *, struct context *);
/* Writes a NAL unit behind its start code; false when it does not fit. */
bool encode_nal(struct buffer *out, const struct bits *unit);
/* Non-slice headers of the caller, in its order. */
bool encode_headers(const struct job *, bool drops_sei, struct buffer *out);
/* The caller's header of a slice: from behind its start code on. */
const struct packed *encode_slice_header(const struct job *, unsigned index);
bool encode_packed(const struct packed *, struct bits *);

/* What a picture works on: found by each codec in its own parameters. */
struct subject {
    VASurfaceID picture, reference;
    VABufferID coded;
    uint32_t width, height; /* of what is coded */
    bool inter;
};

/* hevc.c */
bool hevc_is(const struct context *);
bool hevc_subject(const struct context *, struct subject *);
VAStatus hevc_write(struct driver *, struct context *, struct surface *source, struct surface *picture,
                    struct surface *reference, struct buffer *out);

/* hevc_slice.c: what becomes of each coding unit. */
struct hevc_coding {
    const struct surface *source, *reference; /* without a reference nothing is skipped */
    struct surface *out;                /* what a decoder will have, but for deblocking */
    uint32_t width, height;             /* multiples of the smallest coding block */
    unsigned ctb, cb;                   /* log2 of the largest and of the smallest coding block */
    unsigned pcm_least, pcm_most;       /* log2 of the I_PCM blocks; 0: there are none */
    bool pcm_whole;                     /* ... whose samples have all of their bits */
    unsigned tb_least;                  /* log2 of the smallest transform block */
    bool hierarchy;                     /* transform blocks may be split */
    bool inter, both, init_flag;        /* P or B; B; cabac_init_flag */
    bool bypass_flag, qp_delta, skip_flag, sao; /* what the parameter sets have in each unit */
    unsigned merge_candidates;
    unsigned group;                     /* log2 of the smallest quantisation group */
    int qp, cb_offset, cr_offset;
    uint32_t first, count;              /* coding tree units */
    uint8_t number;                     /* of the slice, from 1 */
    uint8_t *done, *depth, *skipped;    /* of each 8x8 block: its slice, its depth, whether it was skipped */
};
bool hevc_same(const struct surface *, const struct surface *, uint32_t width, uint32_t height);
void hevc_slice(struct bits *, struct hevc_coding *);

/* hevc_headers.c */
void hevc_vps(struct bits *, const struct context *);
void hevc_sps(struct bits *, const struct context *, bool pcm, bool crop);
void hevc_pps(struct bits *, const struct context *);
void hevc_slice_header(struct bits *, const struct context *, const VAEncSliceParameterBufferHEVC *, unsigned address_bits);

/* rate.c: what the caller says of it, and what it leaves for a picture. */
void rate_take(struct context *, const struct buffer *misc);
/* Which macroblocks it leaves no samples for; NULL if it leaves enough, or is not obeyed. */
uint8_t *rate_flat(const struct driver *, struct context *, const struct coding *, bool cabac);
void rate_spend(struct context *, uint32_t bits);

/* cabac.c: the arithmetic coder, as far as P_Skip and I_PCM need it. */
struct cabac {
    struct bits *out;
    uint32_t low, range, outstanding;
    bool first;
    uint8_t state[460], mps[460];
};
void cabac_begin(struct cabac *, struct bits *out, bool intra, unsigned init_idc, int qp);
void cabac_restart(struct cabac *);
void cabac_bin(struct cabac *, unsigned context, unsigned bin);
void cabac_terminate(struct cabac *, unsigned bin);
void cabac_bypass(struct cabac *, unsigned bin);
/* A context of ITU-T H.265, by its initValue (9.3.2.2). */
void cabac_context(struct cabac *, unsigned context, unsigned value, int qp);

#endif
