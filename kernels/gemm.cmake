# Matrix products: the interface with its list of implementations, and each of these.
set(gemm_sources ops/gemm.cc cpu/amx.cc cpu/gemm_amx.cc cpu/gemm_fma.cc cpu/gemm_ref.cc cpu/gemm_plan.cc cpu/gemm_tile.cc
                 cpu/fma_peak.cc cpu/product_peak.cc)
