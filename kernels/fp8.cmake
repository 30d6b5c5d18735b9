# Number formats of the FP8 recipe, quantisation by tiles.
set(fp8_sources fp8/quantize.cc fp8/ref_quantize.cc cpu/quantize.cc cpu/quantize_columns.cc)
