// Names of functions that NVIDIA's headers of 16-bit floats write in PTX. Included before those
// headers it gives the functions other names, so that half.h can define them; included again, it
// ends that.
//
// No `#pragma once`: it is meant to be included twice.
#ifndef BRAZE_PTX_NAMES
#define BRAZE_PTX_NAMES
#define __half2int_rn braze_ptx___half2int_rn
#define __half2int_rd braze_ptx___half2int_rd
#define __half2int_ru braze_ptx___half2int_ru
#define __half2short_rn braze_ptx___half2short_rn
#define __half2short_rd braze_ptx___half2short_rd
#define __half2short_ru braze_ptx___half2short_ru
#define __half2uint_rn braze_ptx___half2uint_rn
#define __half2uint_rd braze_ptx___half2uint_rd
#define __half2uint_ru braze_ptx___half2uint_ru
#define __half2ushort_rn braze_ptx___half2ushort_rn
#define __half2ushort_rd braze_ptx___half2ushort_rd
#define __half2ushort_ru braze_ptx___half2ushort_ru
#define __half2ull_rn braze_ptx___half2ull_rn
#define __half2ull_rd braze_ptx___half2ull_rd
#define __half2ull_ru braze_ptx___half2ull_ru
#define __half2ll_rn braze_ptx___half2ll_rn
#define __half2ll_rd braze_ptx___half2ll_rd
#define __half2ll_ru braze_ptx___half2ll_ru
#define __bfloat162int_rd braze_ptx___bfloat162int_rd
#define __bfloat162int_ru braze_ptx___bfloat162int_ru
#define __bfloat162short_rn braze_ptx___bfloat162short_rn
#define __bfloat162short_rd braze_ptx___bfloat162short_rd
#define __bfloat162short_ru braze_ptx___bfloat162short_ru
#define __bfloat162uint_ru braze_ptx___bfloat162uint_ru
#define __bfloat162ushort_rn braze_ptx___bfloat162ushort_rn
#define __bfloat162ushort_rd braze_ptx___bfloat162ushort_rd
#define __bfloat162ushort_ru braze_ptx___bfloat162ushort_ru
#define __bfloat162ull_ru braze_ptx___bfloat162ull_ru
#define __bfloat162ll_rd braze_ptx___bfloat162ll_rd
#define __bfloat162ll_ru braze_ptx___bfloat162ll_ru
#define htrunc braze_ptx_htrunc
#define hceil braze_ptx_hceil
#define hfloor braze_ptx_hfloor
#define hrint braze_ptx_hrint
#define h2trunc braze_ptx_h2trunc
#define h2ceil braze_ptx_h2ceil
#define h2floor braze_ptx_h2floor
#define h2rint braze_ptx_h2rint
#define __shfl_sync braze_ptx___shfl_sync
#define __shfl_up_sync braze_ptx___shfl_up_sync
#define __shfl_down_sync braze_ptx___shfl_down_sync
#define __shfl_xor_sync braze_ptx___shfl_xor_sync
#define __ldg braze_ptx___ldg
#define __ldcg braze_ptx___ldcg
#define __ldca braze_ptx___ldca
#define __ldcs braze_ptx___ldcs
#define __ldlu braze_ptx___ldlu
#define __ldcv braze_ptx___ldcv
#define __stwb braze_ptx___stwb
#define __stcg braze_ptx___stcg
#define __stcs braze_ptx___stcs
#define __stwt braze_ptx___stwt
#define __hfma braze_ptx___hfma
#define __hfma2 braze_ptx___hfma2
#define __hfma_sat braze_ptx___hfma_sat
#define __hfma2_sat braze_ptx___hfma2_sat
#define __hfma_relu braze_ptx___hfma_relu
#define __hfma2_relu braze_ptx___hfma2_relu
#define hsin braze_ptx_hsin
#define hcos braze_ptx_hcos
#define hexp braze_ptx_hexp
#define hexp2 braze_ptx_hexp2
#define hexp10 braze_ptx_hexp10
#define hlog braze_ptx_hlog
#define hlog2 braze_ptx_hlog2
#define hlog10 braze_ptx_hlog10
#define hrcp braze_ptx_hrcp
#define hrsqrt braze_ptx_hrsqrt
#define hsqrt braze_ptx_hsqrt
#define h2sin braze_ptx_h2sin
#define h2cos braze_ptx_h2cos
#define h2exp braze_ptx_h2exp
#define h2exp2 braze_ptx_h2exp2
#define h2exp10 braze_ptx_h2exp10
#define h2log braze_ptx_h2log
#define h2log2 braze_ptx_h2log2
#define h2log10 braze_ptx_h2log10
#define h2rcp braze_ptx_h2rcp
#define h2rsqrt braze_ptx_h2rsqrt
#define h2sqrt braze_ptx_h2sqrt
#define atomicAdd braze_ptx_atomicAdd
#else
#undef BRAZE_PTX_NAMES
#undef __half2int_rn
#undef __half2int_rd
#undef __half2int_ru
#undef __half2short_rn
#undef __half2short_rd
#undef __half2short_ru
#undef __half2uint_rn
#undef __half2uint_rd
#undef __half2uint_ru
#undef __half2ushort_rn
#undef __half2ushort_rd
#undef __half2ushort_ru
#undef __half2ull_rn
#undef __half2ull_rd
#undef __half2ull_ru
#undef __half2ll_rn
#undef __half2ll_rd
#undef __half2ll_ru
#undef __bfloat162int_rd
#undef __bfloat162int_ru
#undef __bfloat162short_rn
#undef __bfloat162short_rd
#undef __bfloat162short_ru
#undef __bfloat162uint_ru
#undef __bfloat162ushort_rn
#undef __bfloat162ushort_rd
#undef __bfloat162ushort_ru
#undef __bfloat162ull_ru
#undef __bfloat162ll_rd
#undef __bfloat162ll_ru
#undef htrunc
#undef hceil
#undef hfloor
#undef hrint
#undef h2trunc
#undef h2ceil
#undef h2floor
#undef h2rint
#undef __shfl_sync
#undef __shfl_up_sync
#undef __shfl_down_sync
#undef __shfl_xor_sync
#undef __ldg
#undef __ldcg
#undef __ldca
#undef __ldcs
#undef __ldlu
#undef __ldcv
#undef __stwb
#undef __stcg
#undef __stcs
#undef __stwt
#undef __hfma
#undef __hfma2
#undef __hfma_sat
#undef __hfma2_sat
#undef __hfma_relu
#undef __hfma2_relu
#undef hsin
#undef hcos
#undef hexp
#undef hexp2
#undef hexp10
#undef hlog
#undef hlog2
#undef hlog10
#undef hrcp
#undef hrsqrt
#undef hsqrt
#undef h2sin
#undef h2cos
#undef h2exp
#undef h2exp2
#undef h2exp10
#undef h2log
#undef h2log2
#undef h2log10
#undef h2rcp
#undef h2rsqrt
#undef h2sqrt
#undef atomicAdd
#endif
