// From measurements on one machine to the table of it that the planner reads. What measures is `jevons bench calibrate`.
#ifndef JEVONS_TRAINER_PLAN_CALIBRATION_H_
#define JEVONS_TRAINER_PLAN_CALIBRATION_H_

#include <array>
#include <string>
#include <vector>

#include "configs/cluster.pb.h"
#include "trainer/plan/constants.h"

namespace jevons {

// One product: beside its FLOPs the cost model counts `bytes` at memory speed (the result; a weight gradient's sums).
struct ProductSample {
  double flops = 0, bytes = 0, seconds = 0;
};

// Bytes as the cost model counts them, and how long they took.
struct MovedBytes {
  double bytes = 0, seconds = 0;
  double gbs() const { return bytes / seconds / 1e9; }
};

struct Measurements {
  std::string device, date;  // the processor's name; when
  std::string shapes;        // what was run, in words
  int ranks = 1, ranks_per_node = 1, threads = 1;
  double memory_gib = 0, occupied_gib = 0;             // of the node; in use by others
  double peak_tflops = 0;                              // of FP32 multiply-adds on registers, per rank
  std::array<std::vector<ProductSample>, 3> products;  // FP32, BF16, FP8; none empty
  MovedBytes copy, elementwise, cast;
  double attention_length = 0;  // tokens
  double attention_forward_flops = 0,
         attention_forward_seconds = 0;  // causal: 2 FLOPs per multiply-add of half the pairs
  double attention_backward_flops = 0, attention_backward_seconds = 0;
  // A small all-to-all of all ranks, of those within machines, and of those of one place on each; 0 where there is none.
  double exchange_seconds = 0, node_exchange_seconds = 0, rail_exchange_seconds = 0;
  double exchange_gbs = 0;             // a large one within machines, sent by each rank; 0 with one rank on each
  double network_gbs = 0;              // the same between machines; 0 with one
  double rail_gbs = 0;                 // the same among ranks of one place on each machine
  double forward_plan_seconds = 0;     // of the host, to plan a forwarded dispatch; for each pair of a token and its expert
  double dollars_per_device_hour = 0;  // a device is a thread's core
};

// Rates of the three types of products, and the start of a product, that fit all samples at once: the least sum of squared
// relative errors of flops / rate + bytes / memory speed + start.
struct ProductFit {
  std::array<double, 3> tflops{};
  double launch_us = 0;
  double mean_error = 0;  // relative, absolute value, over all samples
};
ProductFit FitProducts(const Measurements& m);

// Shares of `constants` are divided out, so that the model's rates are the measured ones.
ClusterConfig FitCluster(const Measurements& m, const Constants& constants = {});

// Text format, a comment beside every number: parses to FitCluster's result, rounded to four digits.
std::string CalibrationText(const Measurements& m, const Constants& constants = {});

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_CALIBRATION_H_
