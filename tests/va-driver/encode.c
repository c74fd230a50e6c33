/* One picture: H.264 here, HEVC in hevc.c. In H.264 what equals the reference is skipped, everything else is I_PCM; or, if the
 * driver shall be `paced`, as much of it as the rate allows.
 *
 * In: the source surface, the caller's parameters and packed headers. Out: an access unit under those
 * very headers, so that a decoder shows the source byte for byte, and only if the headers are right. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

enum { NAL_SLICE = 1, NAL_IDR = 5 };

static bool room(struct surface *surface, uint32_t columns, uint32_t rows) {
    if (!surface->coded || surface->columns != columns || surface->rows != rows) {
        free(surface->coded);
        surface->coded = calloc(columns * rows, 384);
        surface->columns = columns;
        surface->rows = rows;
    }
    return surface->coded;
}

/* The source as whole macroblocks, its last column and row repeated. */
static bool load(struct surface *source, struct surface *into, uint32_t columns, uint32_t rows) {
    const struct pixels *p = &source->pixels;
    size_t row = columns * 16u, lumas = row * rows * 16u;
    if (!room(into, columns, rows)) return false;
    surface_begin_cpu(source, false);
    size_t width = p->width < row ? p->width : row;
    for (uint32_t y = 0; y < rows * 16; y++) {
        uint32_t from = y < p->height ? y : p->height - 1;
        uint8_t *line = into->coded + y * row;
        memcpy(line, p->data + p->offsets[0] + (size_t)from * p->pitches[0], width);
        memset(line + width, line[width - 1], row - width);
    }
    uint32_t half = (p->height + 1) / 2;
    width = (width + 1) & ~(size_t)1;
    for (uint32_t y = 0; y < rows * 8; y++) {
        uint32_t from = y < half ? y : half - 1;
        uint8_t *line = into->coded + lumas + y * row;
        memcpy(line, p->data + p->offsets[1] + (size_t)from * p->pitches[1], width);
        for (size_t x = width; x < row; x += 2) memcpy(line + x, line + width - 2, 2);
    }
    surface_end_cpu(source, false);
    return true;
}

/* Whether deblocking leaves I_PCM next to P_Skip alone: the former counts as QP 0, and below 16 the
 * filter's threshold is zero (8.7.2.2, table 8-16). */
static bool is_quiet(const VAEncSliceParameterBufferH264 *s, int qp) {
    return s->disable_deblocking_filter_idc == 1 || (qp + 1) / 2 + 2 * s->slice_alpha_c0_offset_div2 < 16;
}

/* Writes a NAL unit: start code, header byte, payload. */
static bool nal(struct buffer *out, uint8_t header, const struct bits *payload) {
    static const uint8_t start[4] = {0, 0, 0, 1};
    size_t used = out->used;
    if (payload->failed || used + 5 > out->size) return false;
    memcpy(out->data + used, start, 4);
    out->data[used + 4] = header;
    used += 5;
    bool fits = bits_escape(payload->bytes, payload->length, out->data, &used, out->size);
    out->used = (uint32_t)used;
    return fits;
}

bool encode_nal(struct buffer *out, const struct bits *unit) {
    static const uint8_t start[4] = {0, 0, 0, 1};
    size_t used = out->used;
    if (unit->failed || used + 4 > out->size) return false;
    memcpy(out->data + used, start, 4);
    used += 4;
    bool fits = bits_escape(unit->bytes, unit->length, out->data, &used, out->size);
    out->used = (uint32_t)used;
    return fits;
}

/* Where a packed header's NAL unit begins: behind its start code; 0: nowhere. */
static size_t unit_begin(const struct packed *packed) {
    size_t total = (packed->bits + 7) / 8, at = 0;
    if (total > packed->size || total < 6) return 0;
    while (at < total && packed->data[at] == 0) at++;
    return at < 2 || at + 3 >= total || packed->data[at] != 1 ? 0 : at + 1;
}

/* Its bits from `at` on. */
static bool unit_bits(const struct packed *packed, size_t at, struct bits *bits) {
    size_t total = (packed->bits + 7) / 8;
    uint8_t *plain = malloc(total - at);
    if (!plain) return false;
    size_t length = total - at;
    if (packed->escaped) length = bits_unescape(packed->data + at, total - at, plain);
    else memcpy(plain, packed->data + at, length);
    size_t count = packed->bits - at * 8 - (total - at - length) * 8;
    for (size_t i = 0; i < count; i++) bits_put(bits, 1, plain[i / 8] >> (7 - i % 8) & 1);
    free(plain);
    return true;
}

/* A packed slice header: the bits behind its NAL unit's header byte, and that byte. */
static bool packed_slice(const struct packed *packed, struct bits *bits, uint8_t *header) {
    size_t at = unit_begin(packed);
    if (!at) return false;
    *header = packed->data[at];
    return unit_bits(packed, at + 1, bits);
}

bool encode_packed(const struct packed *packed, struct bits *bits) {
    size_t at = unit_begin(packed);
    return at && unit_bits(packed, at, bits);
}

bool encode_headers(const struct job *job, bool drops_sei, struct buffer *out) {
    for (unsigned i = 0; i < job->packed_count; i++) {
        const struct packed *p = &job->packed[i];
        size_t size = p->bits / 8;
        if (p->type == VAEncPackedHeaderH264_Slice || (drops_sei && p->type == VAEncPackedHeaderRawData)) continue;
        if (size > p->size) return false;
        size_t used = out->used;
        if (p->escaped) {
            if (used + size > out->size) return false;
            memcpy(out->data + used, p->data, size);
            used += size;
        } else {
            /* The start code is none of what is escaped. */
            size_t at = 0;
            while (at < size && p->data[at] == 0) at++;
            if (used + at + 1 > out->size || at >= size) return false;
            memcpy(out->data + used, p->data, at + 1);
            used += at + 1;
            if (!bits_escape(p->data + at + 1, size - at - 1, out->data, &used, out->size)) return false;
        }
        out->used = (uint32_t)used;
    }
    return true;
}

const struct packed *encode_slice_header(const struct job *job, unsigned index) {
    for (unsigned i = 0; i < job->packed_count; i++)
        if (job->packed[i].type == VAEncPackedHeaderH264_Slice && index-- == 0) return &job->packed[i];
    return NULL;
}

static VAStatus write_picture(struct driver *driver, struct context *context, struct surface *source,
                              struct surface *picture, struct surface *reference, struct buffer *out) {
    struct job *job = &context->job;
    const VAEncSequenceParameterBufferH264 *sequence = &context->sequence;
    bool idr = job->picture.pic_fields.bits.idr_pic_flag, own = driver->mode.own_headers;
    if (own && (driver->mode.paced || driver->mode.capped)) job->picture.pic_fields.bits.entropy_coding_mode_flag = 0; /* its own PPS says so */
    bool cabac = job->picture.pic_fields.bits.entropy_coding_mode_flag;
    struct own_headers headers = {
        .profile = context->config.profile == VAProfileH264ConstrainedBaseline ? 66 :
                   context->config.profile == VAProfileH264Main ? 77 : 100,
        .level = own ? 51 : sequence->level_idc,
        .frame_num_bits = own ? 12 : sequence->seq_fields.bits.log2_max_frame_num_minus4 + 4,
        .poc_type = own ? 0 : sequence->seq_fields.bits.pic_order_cnt_type,
        .poc_bits = own ? 8 : sequence->seq_fields.bits.log2_max_pic_order_cnt_lsb_minus4 + 4,
        .crop = !driver->mode.wrong_size,
        .deblocking_control = own || job->picture.pic_fields.bits.deblocking_filter_control_present_flag,
    };
    if (idr) context->own_frame_num = 0, context->own_idr++;
    struct bits bits = {0};
    bool fits = own || encode_headers(job, driver->mode.drops_sei, out);
    if (idr && (own || job->packed_count == 0)) {
        headers_sps(&bits, context, &headers);
        fits = fits && nal(out, 0x67, &bits);
        bits.length = 0;
        headers_pps(&bits, context, &headers);
        fits = fits && nal(out, 0x68, &bits);
    }
    VAStatus status = VA_STATUS_SUCCESS;
    for (unsigned i = 0; fits && i < job->slice_count && status == VA_STATUS_SUCCESS; i++) {
        VAEncSliceParameterBufferH264 *slice = &job->slices[i];
        bool inter = slice->slice_type % 5 == 0;
        uint32_t all = picture->columns * picture->rows;
        if (slice->slice_type % 5 == 1 || slice->macroblock_address > all || slice->num_macroblocks == 0 ||
            slice->num_macroblocks > all - slice->macroblock_address || (inter && !reference)) {
            status = VA_STATUS_ERROR_INVALID_PARAMETER;
            break;
        }
        uint8_t header = (uint8_t)(job->picture.pic_fields.bits.reference_pic_flag ? 0x60 : 0) | (idr ? NAL_IDR : NAL_SLICE);
        const struct packed *packed = own ? NULL : encode_slice_header(job, i);
        bits.length = 0;
        int qp = job->picture.pic_init_qp + slice->slice_qp_delta;
        bool quiet = is_quiet(slice, qp);
        if (packed) {
            if (!packed_slice(packed, &bits, &header)) status = VA_STATUS_ERROR_INVALID_PARAMETER;
        } else {
            headers_slice(&bits, context, &headers, slice, own ? context->own_frame_num : job->picture.frame_num,
                          own ? context->own_idr & 1 : slice->idr_pic_id);
            quiet |= headers.deblocking_control;
        }
        if (driver->mode.idle && inter && !cabac) {
            bits_ue(&bits, slice->num_macroblocks);
            bits_put(&bits, 1, 1);
            bits_align(&bits, 0);
            fits = nal(out, header, &bits);
            continue;
        }
        struct coding coding = {.source = source, .reference = quiet ? reference : NULL, .out = picture,
                                .first = slice->macroblock_address, .count = slice->num_macroblocks, .inter = inter,
                                .refresh = &job->refresh, .qp = qp, .init_idc = slice->cabac_init_idc, .raw = calloc(1, all)};
        uint8_t *flat = rate_flat(driver, context, &coding, cabac);
        coding.flat = flat;
        if (!coding.raw) status = VA_STATUS_ERROR_ALLOCATION_FAILED;
        else if (!cabac) slice_cavlc(&bits, &coding);
        else if (!slice_cabac(&bits, &coding)) status = VA_STATUS_ERROR_ALLOCATION_FAILED;
        free(coding.raw);
        free(flat);
        if (status == VA_STATUS_SUCCESS) fits = nal(out, header, &bits);
    }
    if (job->picture.pic_fields.bits.reference_pic_flag) context->own_frame_num++;
    if (!fits) out->segment.status |= VA_CODED_BUF_STATUS_SLICE_OVERFLOW_MASK;
    rate_spend(context, out->used * 8);
    bits_free(&bits);
    return status;
}

static bool h264_subject(const struct context *context, struct subject *it) {
    const struct job *job = &context->job;
    const VAEncSequenceParameterBufferH264 *s = &context->sequence;
    *it = (struct subject){.picture = job->picture.CurrPic.picture_id, .coded = job->picture.coded_buf,
                           .width = s->picture_width_in_mbs * 16u, .height = s->picture_height_in_mbs * 16u,
                           .inter = job->slices[0].slice_type % 5 == 0,
                           .reference = job->slices[0].RefPicList0[0].picture_id};
    return true;
}

VAStatus encode_run(struct driver *driver, struct context *context) {
    struct job *job = &context->job;
    struct surface *source = LOOKUP(driver, surfaces, SURFACES, job->target);
    if (!source) return VA_STATUS_ERROR_INVALID_SURFACE;
    if (!context->has_sequence || !job->has_picture || job->slice_count == 0) return VA_STATUS_ERROR_INVALID_PARAMETER;
    struct subject it;
    if (!(hevc_is(context) ? hevc_subject(context, &it) : h264_subject(context, &it))) return VA_STATUS_ERROR_INVALID_PARAMETER;
    struct surface *picture = LOOKUP(driver, surfaces, SURFACES, it.picture);
    struct buffer *out = LOOKUP(driver, buffers, BUFFERS, it.coded);
    if (!picture || source->pixels.fourcc != VA_FOURCC_NV12) return VA_STATUS_ERROR_INVALID_SURFACE;
    if (!out || out->type != VAEncCodedBufferType) return VA_STATUS_ERROR_INVALID_BUFFER;
    if (!it.width || !it.height || it.width > MAX_EDGE || it.height > MAX_EDGE) return VA_STATUS_ERROR_INVALID_PARAMETER;
    uint32_t columns = (it.width + 15) / 16, rows = (it.height + 15) / 16;

    struct surface *reference = NULL;
    if (it.inter) {
        reference = LOOKUP(driver, surfaces, SURFACES, it.reference);
        if (!reference || !reference->coded || reference->columns != columns || reference->rows != rows || reference == picture)
            return VA_STATUS_ERROR_INVALID_PARAMETER;
    }
    out->used = 0;
    out->segment = (VACodedBufferSegment){.buf = out->data};
    const struct mode *mode = &driver->mode;
    long frame = driver->frames++;
#define FROM(when) (mode->when >= 0 && frame >= mode->when)
    if (FROM(crash_after)) __builtin_trap();
    if (FROM(fail_after)) return VA_STATUS_ERROR_OPERATION_FAILED;
    bool idle = mode->idle && reference && !hevc_is(context);
    if (!idle && !load(source, &context->source, columns, rows)) return VA_STATUS_ERROR_ALLOCATION_FAILED;
    if (!room(picture, columns, rows)) return VA_STATUS_ERROR_ALLOCATION_FAILED;
    VAStatus status = hevc_is(context) ? hevc_write(driver, context, &context->source, picture, reference, out)
                                       : write_picture(driver, context, idle ? picture : &context->source, picture, reference, out);
    if (FROM(garbage_after)) {
        uint32_t noise = 12345;
        for (uint32_t i = 0; i < out->used; i++) {
            noise = noise * 1664525 + 1013904223;
            out->data[i] = (uint8_t)(noise >> 24);
        }
    }
    if (FROM(empty_after)) out->used = 0;
    if (FROM(overflow_after)) {
        out->segment.status |= VA_CODED_BUF_STATUS_SLICE_OVERFLOW_MASK;
        out->used = out->size;
    }
    out->segment.size = out->used;
    return status;
}
