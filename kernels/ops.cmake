# The operators: public functions (checks and choice), the scalar reference, the CPU's implementation.
set(ops_sources
  ops/adamw.cc ops/attention.cc ops/elementwise.cc ops/embedding.cc ops/expect.cc ops/fixed_point.cc ops/permute.cc ops/reduce.cc
  ops/ref_ops.cc ops/registry.cc ops/rmsnorm.cc ops/rope.cc ops/router.cc ops/softmax_xent.cc ops/swiglu.cc ops/swiglu_quantize.cc
  cpu/adamw.cc cpu/attention.cc cpu/attention_backward.cc cpu/cpu_ops.cc cpu/elementwise.cc cpu/embedding.cc cpu/fixed_point.cc cpu/permute.cc cpu/reduce.cc cpu/rmsnorm.cc
  cpu/rope.cc cpu/router.cc cpu/softmax_xent.cc cpu/swiglu.cc cpu/swiglu_quantize.cc)
