/* One picture of HEVC (ITU-T H.265): I_PCM where the sequence has it, else the mean of each block;
 * what equals the reference is skipped.
 *
 * In: the source surface, the caller's parameters and packed headers. Out: an access unit under those
 * very headers. With I_PCM a decoder shows the source byte for byte, and only if the headers are right. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

enum { NAL_VPS = 32, NAL_SPS = 33, NAL_PPS = 34 };

bool hevc_is(const struct context *context) { return context->config.profile == VAProfileHEVCMain; }

bool hevc_subject(const struct context *context, struct subject *it) {
    const struct job *job = &context->job;
    const VAEncSequenceParameterBufferHEVC *s = &context->hevc_sequence;
    const VAEncPictureParameterBufferHEVC *p = &job->hevc_picture;
    *it = (struct subject){.picture = p->decoded_curr_pic.picture_id, .coded = p->coded_buf,
                           .width = s->pic_width_in_luma_samples, .height = s->pic_height_in_luma_samples,
                           .inter = job->hevc_slices[0].slice_type != 2,
                           .reference = job->hevc_slices[0].ref_pic_list0[0].picture_id};
    unsigned cb = s->log2_min_luma_coding_block_size_minus3 + 3u, ctb = cb + s->log2_diff_max_min_luma_coding_block_size;
    unsigned tb = s->log2_min_transform_block_size_minus2 + 2u;
    if (cb > 6 || ctb < 4 || ctb > 6 || it->width % (1u << cb) || it->height % (1u << cb)) return false;
    /* A transform block is as large as its coding block here. */
    if (tb > cb || tb + s->log2_diff_max_min_transform_block_size < cb) return false;
    /* What this driver does not write, it has told nobody that it would. */
    if (s->seq_fields.bits.chroma_format_idc != 1 || s->seq_fields.bits.bit_depth_luma_minus8 ||
        s->seq_fields.bits.bit_depth_chroma_minus8 || s->seq_fields.bits.scaling_list_enabled_flag) return false;
    return !p->pic_fields.bits.tiles_enabled_flag && !p->pic_fields.bits.entropy_coding_sync_enabled_flag &&
           !p->pic_fields.bits.constrained_intra_pred_flag && !p->pic_fields.bits.weighted_pred_flag;
}

/* Whether deblocking leaves everything alone: at a boundary of intra blocks both of its thresholds are
 * zero below QP 16 (8.7.2.5.3, table 8-12, with bS 2). */
static bool is_quiet(const VAEncPictureParameterBufferHEVC *p, const VAEncSliceParameterBufferHEVC *s, int qp) {
    int chroma = p->pps_cb_qp_offset > p->pps_cr_qp_offset ? p->pps_cb_qp_offset : p->pps_cr_qp_offset;
    return s->slice_fields.bits.slice_deblocking_filter_disabled_flag ||
           (qp + 2 * s->slice_beta_offset_div2 < 16 && qp + (chroma > 0 ? chroma : 0) + 2 * s->slice_tc_offset_div2 < 16);
}

static bool set(struct buffer *out, uint8_t kind, struct bits *bits, const struct context *context, bool pcm, bool crop) {
    bits->length = 0;
    bits_put(bits, 16, (uint32_t)kind << 9 | 1);
    if (kind == NAL_VPS) hevc_vps(bits, context);
    else if (kind == NAL_SPS) hevc_sps(bits, context, pcm, crop);
    else hevc_pps(bits, context);
    bits_put(bits, 1, 1);
    bits_align(bits, 0);
    return encode_nal(out, bits);
}

static unsigned log2_up(uint32_t value) {
    unsigned bits = 0;
    while ((1u << bits) < value) bits++;
    return bits;
}

VAStatus hevc_write(struct driver *driver, struct context *context, struct surface *source, struct surface *picture,
                    struct surface *reference, struct buffer *out) {
    struct job *job = &context->job;
    const VAEncSequenceParameterBufferHEVC *s = &context->hevc_sequence;
    const VAEncPictureParameterBufferHEVC *p = &job->hevc_picture;
    bool own = driver->mode.own_headers || job->packed_count == 0 || !encode_slice_header(job, 0);
    bool idr = p->pic_fields.bits.idr_pic_flag;
    unsigned cb = s->log2_min_luma_coding_block_size_minus3 + 3u, ctb = cb + s->log2_diff_max_min_luma_coding_block_size;
    uint32_t width = s->pic_width_in_luma_samples, height = s->pic_height_in_luma_samples;
    uint32_t columns = (width + (1u << ctb) - 1) >> ctb, all = columns * ((height + (1u << ctb) - 1) >> ctb);
    bool pcm = own ? !driver->mode.no_pcm : s->seq_fields.bits.pcm_enabled_flag;
    bool whole = own || (s->pcm_sample_bit_depth_luma_minus1 == 7 && s->pcm_sample_bit_depth_chroma_minus1 == 7);
    size_t blocks = (size_t)((width + 7) / 8) * ((height + 7) / 8);
    uint8_t *maps = calloc(3, blocks);
    if (!maps) return VA_STATUS_ERROR_ALLOCATION_FAILED;
    struct hevc_coding coding = {
        .source = source, .out = picture, .width = width, .height = height, .ctb = ctb, .cb = cb,
        .tb_least = s->log2_min_transform_block_size_minus2 + 2u,
        .group = p->diff_cu_qp_delta_depth < ctb ? ctb - p->diff_cu_qp_delta_depth : 0,
        .hierarchy = s->max_transform_hierarchy_depth_intra > 0,
        .bypass_flag = !own && p->pic_fields.bits.transquant_bypass_enabled_flag,
        .qp_delta = !own && p->pic_fields.bits.cu_qp_delta_enabled_flag,
        .skip_flag = !own && p->pic_fields.bits.transform_skip_enabled_flag,
        .done = maps, .depth = maps + blocks, .skipped = maps + 2 * blocks,
    };
    if (pcm) {
        coding.pcm_whole = whole;
        coding.pcm_least = own ? cb : s->log2_min_pcm_luma_coding_block_size_minus3 + 3u;
        coding.pcm_most = own ? (ctb < 5 ? ctb : 5) : s->log2_max_pcm_luma_coding_block_size_minus3 + 3u;
    }
    struct bits bits = {0};
    bool fits = own || encode_headers(job, driver->mode.drops_sei, out);
    if (idr && own) {
        bool crop = !driver->mode.wrong_size;
        fits = set(out, NAL_VPS, &bits, context, pcm, crop) && set(out, NAL_SPS, &bits, context, pcm, crop) &&
               set(out, NAL_PPS, &bits, context, pcm, crop);
    }
    /* Deblocking would change what is skipped next to what is not: then it is all or nothing. */
    bool same = reference && hevc_same(source, reference, width, height);
    VAStatus status = VA_STATUS_SUCCESS;
    for (unsigned i = 0; fits && i < job->slice_count; i++) {
        VAEncSliceParameterBufferHEVC *slice = &job->hevc_slices[i];
        uint32_t first = slice->slice_segment_address, count = slice->num_ctu_in_slice;
        int qp = p->pic_init_qp + slice->slice_qp_delta;
        bool inter = slice->slice_type != 2, refused = slice->slice_type == 1 && driver->mode.both_lists;
        if (slice->slice_type > 2 || first >= all || count == 0 || count > all - first || (inter && !reference) || refused ||
            slice->slice_fields.bits.dependent_slice_segment_flag || slice->slice_fields.bits.slice_sao_luma_flag ||
            slice->slice_fields.bits.slice_sao_chroma_flag || (slice->slice_type == 0 &&
            slice->ref_pic_list1[0].picture_id != slice->ref_pic_list0[0].picture_id)) {
            status = VA_STATUS_ERROR_INVALID_PARAMETER;
            break;
        }
        bits.length = 0;
        if (own) {
            bits_put(&bits, 16, (uint32_t)(idr ? 19 : 1) << 9 | 1);
            hevc_slice_header(&bits, context, slice, log2_up(all));
        } else {
            const struct packed *packed = encode_slice_header(job, i);
            if (!packed || !encode_packed(packed, &bits)) {
                status = VA_STATUS_ERROR_INVALID_PARAMETER;
                break;
            }
        }
        /* byte_alignment() is a part of the header, which some callers leave to the driver. */
        if (bits.held) {
            bits_put(&bits, 1, 1);
            bits_align(&bits, 0);
        }
        bool quiet = own || is_quiet(p, slice, qp);
        coding.reference = inter && (quiet || same) ? reference : NULL;
        coding.inter = inter, coding.both = slice->slice_type == 0, coding.first = first, coding.count = count;
        coding.init_flag = !own && slice->slice_fields.bits.cabac_init_flag;
        coding.merge_candidates = own ? 1 : slice->max_num_merge_cand;
        coding.qp = own ? p->pic_init_qp : qp;
        coding.cb_offset = own ? 0 : p->pps_cb_qp_offset + slice->slice_cb_qp_offset;
        coding.cr_offset = own ? 0 : p->pps_cr_qp_offset + slice->slice_cr_qp_offset;
        coding.number = (uint8_t)(i + 1);
        hevc_slice(&bits, &coding);
        fits = encode_nal(out, &bits);
    }
    if (!fits) out->segment.status |= VA_CODED_BUF_STATUS_SLICE_OVERFLOW_MASK;
    bits_free(&bits);
    free(maps);
    return status;
}
