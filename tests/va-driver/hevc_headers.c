/* VPS, SPS, PPS and slice headers of HEVC (ITU-T H.265, 7.3) to the driver's own liking, as d3d12
 * writes them whatever it is given: I_PCM on, deblocking off. */
#include "driver.h"

enum { ORDER_BITS = 8 };

static void profile(struct bits *b, const VAEncSequenceParameterBufferHEVC *s) {
    bits_put(b, 8, 1);           /* Main profile, Main tier */
    bits_put(b, 32, 0x60000000); /* whose streams Main 10 takes as well */
    bits_put(b, 4, 9);           /* progressive, frames only */
    bits_put(b, 32, 0);
    bits_put(b, 12, 0);
    bits_put(b, 8, s->general_level_idc);
}

/* One reference, nothing out of order. */
static void ordering(struct bits *b) {
    bits_put(b, 1, 1);
    bits_ue(b, 1);
    bits_ue(b, 0);
    bits_ue(b, 0);
}

void hevc_vps(struct bits *b, const struct context *context) {
    bits_put(b, 4, 0);
    bits_put(b, 2, 3); /* a base layer */
    bits_put(b, 6, 0); /* and no other */
    bits_put(b, 3, 0); /* no sub-layers */
    bits_put(b, 1, 1);
    bits_put(b, 16, 0xffff);
    profile(b, &context->hevc_sequence);
    ordering(b);
    bits_put(b, 6, 0);
    bits_ue(b, 0);
    bits_put(b, 2, 0); /* no timing, no extension */
}

void hevc_sps(struct bits *b, const struct context *context, bool pcm, bool crop) {
    const VAEncSequenceParameterBufferHEVC *s = &context->hevc_sequence;
    bits_put(b, 4, 0);
    bits_put(b, 4, 1); /* no sub-layers */
    profile(b, s);
    bits_ue(b, 0);
    bits_ue(b, 1); /* 4:2:0 */
    bits_ue(b, s->pic_width_in_luma_samples);
    bits_ue(b, s->pic_height_in_luma_samples);
    /* The context knows the size that was asked for. */
    uint32_t right = (s->pic_width_in_luma_samples - context->width) / 2, bottom = (s->pic_height_in_luma_samples - context->height) / 2;
    bool window = crop && s->pic_width_in_luma_samples >= context->width && s->pic_height_in_luma_samples >= context->height && (right || bottom);
    bits_put(b, 1, window);
    if (window) {
        bits_ue(b, 0);
        bits_ue(b, right);
        bits_ue(b, 0);
        bits_ue(b, bottom);
    }
    bits_ue(b, 0); /* 8 bits */
    bits_ue(b, 0);
    bits_ue(b, ORDER_BITS - 4);
    ordering(b);
    bits_ue(b, s->log2_min_luma_coding_block_size_minus3);
    bits_ue(b, s->log2_diff_max_min_luma_coding_block_size);
    bits_ue(b, s->log2_min_transform_block_size_minus2);
    bits_ue(b, s->log2_diff_max_min_transform_block_size);
    bits_ue(b, s->max_transform_hierarchy_depth_inter);
    bits_ue(b, s->max_transform_hierarchy_depth_intra);
    bits_put(b, 3, 0); /* no scaling lists, no AMP, no SAO */
    bits_put(b, 1, pcm);
    if (pcm) {
        unsigned cb = s->log2_min_luma_coding_block_size_minus3, most = cb + s->log2_diff_max_min_luma_coding_block_size;
        bits_put(b, 8, 0x77); /* 8 bits */
        bits_ue(b, cb);
        bits_ue(b, (most < 2 ? most : 2) - cb);
        bits_put(b, 1, 1); /* no filters */
    }
    bits_ue(b, 0);     /* reference picture sets: in slice headers */
    bits_put(b, 3, 0); /* no long-term references, no temporal motion vectors, no strong smoothing */
    bits_put(b, 2, 0); /* no VUI, no extension */
}

void hevc_pps(struct bits *b, const struct context *context) {
    const VAEncPictureParameterBufferHEVC *p = &context->job.hevc_picture;
    bits_ue(b, 0);
    bits_ue(b, 0);
    bits_put(b, 7, 0); /* nothing dependent, nothing extra, no hiding of signs, no cabac_init_flag */
    bits_ue(b, 0);     /* one reference */
    bits_ue(b, 0);
    bits_se(b, p->pic_init_qp - 26);
    bits_put(b, 3, 0); /* no constrained intra prediction, no skipped transforms, one quantiser */
    bits_se(b, 0);
    bits_se(b, 0);
    bits_put(b, 7, 0); /* no more offsets, no weights, no bypass, no tiles, no rows, no filter across slices */
    bits_put(b, 3, 5); /* deblocking is off, for good */
    bits_put(b, 2, 0);
    bits_ue(b, 0);
    bits_put(b, 2, 0);
}

void hevc_slice_header(struct bits *b, const struct context *context, const VAEncSliceParameterBufferHEVC *s, unsigned address_bits) {
    const VAEncPictureParameterBufferHEVC *p = &context->job.hevc_picture;
    bool idr = p->pic_fields.bits.idr_pic_flag;
    bits_put(b, 1, s->slice_segment_address == 0);
    if (idr) bits_put(b, 1, 0);
    bits_ue(b, 0);
    if (s->slice_segment_address) bits_put(b, address_bits, s->slice_segment_address);
    bits_ue(b, s->slice_type);
    if (!idr) {
        bits_put(b, ORDER_BITS, (uint32_t)p->decoded_curr_pic.pic_order_cnt & ((1u << ORDER_BITS) - 1));
        bits_put(b, 1, 0); /* the reference picture set follows: one picture, or none */
        bits_ue(b, s->slice_type != 2);
        bits_ue(b, 0);
        if (s->slice_type != 2) {
            bits_ue(b, (uint32_t)(p->decoded_curr_pic.pic_order_cnt - s->ref_pic_list0[0].pic_order_cnt - 1));
            bits_put(b, 1, 1);
        }
    }
    if (s->slice_type != 2) {
        bits_put(b, 1, 0); /* one reference */
        if (s->slice_type == 0) bits_put(b, 1, 0);
        bits_ue(b, 4);     /* one candidate */
    }
    bits_se(b, 0);
    bits_put(b, 1, 1);
    bits_align(b, 0);
}
