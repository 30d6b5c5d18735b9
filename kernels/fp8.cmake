# Number formats of the FP8 recipe, quantisation by tiles, products of quantised matrices.
set(fp8_sources fp8/quantize.cc fp8/ref_quantize.cc fp8/gemm.cc fp8/weight.cc cpu/quantize.cc
                cpu/quantize_columns.cc cpu/fp8_gemm_tile.cc cpu/fp8_gemm_amx.cc cpu/fp8_gemm_chain.cc)
