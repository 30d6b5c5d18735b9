# The operators: public functions (checks and choice), the scalar reference, the CPU's implementation.
set(ops_sources
  ops/adamw.cc ops/attention.cc ops/elementwise.cc ops/embedding.cc ops/expect.cc ops/permute.cc ops/reduce.cc
  ops/ref_ops.cc ops/registry.cc ops/rmsnorm.cc ops/rope.cc ops/router.cc ops/softmax_xent.cc ops/swiglu.cc
  cpu/cpu_ops.cc)
