/* SPS, PPS and slice headers (ITU-T H.264, 7.3) for callers that send none, from the parameter
 * buffers; or to the driver's own liking, as d3d12 writes them whatever it is given. */
#include "driver.h"

void headers_sps(struct bits *b, const struct context *context, const struct own_headers *own) {
    const VAEncSequenceParameterBufferH264 *s = &context->sequence;
    bits_put(b, 8, own->profile);
    bits_put(b, 8, own->profile == 66 ? 0xc0 : 0x40 * (own->profile == 77));
    bits_put(b, 8, own->level);
    bits_ue(b, s->seq_parameter_set_id);
    if (own->profile == 100) {
        bits_ue(b, 1);      /* 4:2:0 */
        bits_ue(b, 0);      /* 8 bits */
        bits_ue(b, 0);
        bits_put(b, 2, 0);  /* no transform bypass, no scaling matrix */
    }
    bits_ue(b, own->frame_num_bits - 4);
    bits_ue(b, own->poc_type);
    if (own->poc_type == 0) bits_ue(b, own->poc_bits - 4);
    bits_ue(b, s->max_num_ref_frames ? s->max_num_ref_frames : 1);
    bits_put(b, 1, 0); /* no gaps in frame_num */
    bits_ue(b, s->picture_width_in_mbs - 1u);
    bits_ue(b, s->picture_height_in_mbs - 1u);
    bits_put(b, 2, 3); /* frames only, direct_8x8_inference */
    /* The context knows the size that was asked for, whatever the caller said of cropping. */
    uint32_t right = (s->picture_width_in_mbs * 16u - context->width) / 2;
    uint32_t bottom = (s->picture_height_in_mbs * 16u - context->height) / 2;
    if (s->frame_cropping_flag) right = s->frame_crop_right_offset, bottom = s->frame_crop_bottom_offset;
    bool crop = own->crop && (right || bottom);
    bits_put(b, 1, crop);
    if (crop) {
        bits_ue(b, 0);
        bits_ue(b, right);
        bits_ue(b, 0);
        bits_ue(b, bottom);
    }
    bits_put(b, 1, 0); /* no VUI */
    bits_put(b, 1, 1);
    bits_align(b, 0);
}

void headers_pps(struct bits *b, const struct context *context, const struct own_headers *own) {
    const VAEncPictureParameterBufferH264 *p = &context->job.picture;
    bits_ue(b, p->pic_parameter_set_id);
    bits_ue(b, p->seq_parameter_set_id);
    bits_put(b, 1, p->pic_fields.bits.entropy_coding_mode_flag);
    bits_put(b, 1, 0); /* no picture order of bottom fields */
    bits_ue(b, 0);     /* one slice group */
    bits_ue(b, 0);     /* one reference */
    bits_ue(b, 0);
    bits_put(b, 3, 0); /* no weighted prediction */
    bits_se(b, p->pic_init_qp - 26);
    bits_se(b, 0);
    bits_se(b, p->chroma_qp_index_offset);
    bits_put(b, 1, own->deblocking_control);
    bits_put(b, 2, 0); /* no constrained intra prediction, no redundant pictures */
    bits_put(b, 1, 1);
    bits_align(b, 0);
}

void headers_slice(struct bits *b, const struct context *context, const struct own_headers *own,
                   const VAEncSliceParameterBufferH264 *s, uint32_t frame_num, uint32_t idr_id) {
    const VAEncPictureParameterBufferH264 *p = &context->job.picture;
    bool idr = p->pic_fields.bits.idr_pic_flag, inter = s->slice_type % 5 == 0;
    bits_ue(b, s->macroblock_address);
    bits_ue(b, inter ? 0 : 2);
    bits_ue(b, p->pic_parameter_set_id);
    bits_put(b, own->frame_num_bits, frame_num & ((1u << own->frame_num_bits) - 1));
    if (idr) bits_ue(b, idr_id);
    if (own->poc_type == 0) bits_put(b, own->poc_bits, (2 * frame_num) & ((1u << own->poc_bits) - 1));
    if (inter) {
        bits_put(b, 1, 1); /* one reference, whatever the PPS says */
        bits_ue(b, 0);
        bits_put(b, 1, 0); /* references in their order */
    }
    if (p->pic_fields.bits.reference_pic_flag) bits_put(b, idr ? 2 : 1, 0);
    if (p->pic_fields.bits.entropy_coding_mode_flag && inter) bits_ue(b, s->cabac_init_idc);
    bits_se(b, s->slice_qp_delta);
    if (own->deblocking_control) bits_ue(b, 1); /* no deblocking */
}
