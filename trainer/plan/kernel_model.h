// Seconds of single kernels and messages on one GPU of a cluster. Fitted on published kernel tables alone
// (README.md states the residuals); no step time of any model goes in here.
#ifndef JEVONS_TRAINER_PLAN_KERNEL_MODEL_H_
#define JEVONS_TRAINER_PLAN_KERNEL_MODEL_H_

#include "configs/cluster.pb.h"
#include "trainer/plan/constants.h"
#include "trainer/plan/dispatch_rows.h"
#include "trainer/plan/layout.h"

namespace jevons {

// C[m, n] (+)= A[m, k] B[k, n], `groups` times with m rows in all.
struct GemmSize {
  double m = 0, n = 0, k = 0;
  double groups = 1;
};

// Seconds that messages keep the links of a GPU busy: over the network and inside its node, one after the other. What is not in two hops is
// all in `network`.
struct Hops {
  double network = 0, node = 0;
  double sum() const { return network + node; }
};

class KernelModel {
 public:
  KernelModel(const ClusterConfig& cluster, const Constants& constants) : cluster_(cluster), constants_(constants) {}

  // Forward and input-gradient products: operands in the precision, result in it or BF16. The main loop runs at the
  // table's rate or at memory speed, the result is written at memory speed; in a grouped product half a tile
  // of rows per group is padding.
  double Gemm(const GemmSize& size, Precision precision) const;
  // dW[n, k] += dY[m, n]^T X[m, k] per group, summed in FP32 in memory.
  double WeightGradient(const GemmSize& size, Precision precision) const;
  // Causal attention: `pairs` = query-key pairs of one head without the mask's half, `width` = qk + v of all heads.
  double AttentionForward(double pairs, double width, double length) const;
  double AttentionBackward(double pairs, double width, double length) const;
  double Elementwise(double bytes) const;
  double Cast(double bytes) const;
  double Stream(double bytes) const;

  // Experts' rows to where they are computed, and back: `tokens` x `row_bytes` from each GPU.
  Hops ToExperts(double tokens, double row_bytes, const ModelShape& model, const Layout& layout) const;
  Hops FromExperts(double tokens, double row_bytes, const ModelShape& model, const Layout& layout) const;
  // What the dispatch of a micro-batch waits for before its rows travel: who sends how many; in two hops lists too, and the host that
  // makes plans of them. Where the machine's table has it measured, else none.
  double PlanDispatch(double tokens, const ModelShape& model, const Layout& layout) const;
  // Ring collectives of a group of `ranks`: each sends `bytes` x (ranks-1)/ranks. `inside` = of these, how many
  // consecutive ranks share a node.
  double Ring(double bytes, int64_t ranks, int64_t inside) const;
  // The same where each rank sends to each other its part, by its own share of the links.
  double Direct(double bytes, int64_t ranks, int64_t inside) const;
  double PointToPoint(double bytes, bool inside_node) const;

  // Rate of products beside communication, relative to alone.
  double lent_share() const;
  const Constants& constants() const { return constants_; }
  const ClusterConfig& cluster() const { return cluster_; }

 private:
  double MainLoopRate(Precision precision) const;
  double PaddedRows(const GemmSize& size) const;
  Hops Exchange(double bytes, const DispatchRows& rows, const Layout& layout) const;
  double NetworkRate(const Layout& layout) const;  // bytes per second of an exchange
  double hbm() const { return cluster_.gpu().hbm_gbs() * 1e9 * constants_.hbm_share; }

  ClusterConfig cluster_;
  Constants constants_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_KERNEL_MODEL_H_
