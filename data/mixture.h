// Which dataset a sample comes from, and which of that dataset's own samples it is: pure functions of the
// global sample index, so that a run may start anywhere.
//
// The heaviest dataset takes floor(n p + phase) of the first n samples, p its share; the others divide what
// is left in the same way, by descending weight, and the last takes the rest. Sample n belongs to the dataset
// whose count grows at n, and its local index is that count: each dataset's samples are used in order, none
// twice, none skipped. Every count is off by less than one from its share of what reached it, which adds up
// to at most 1 + (1 + 1/2 + ... + 1/(datasets - 1)) samples at any n: every batch has the mixture, not only
// the run. The phases are drawn from the seed.
#ifndef JEVONS_DATA_MIXTURE_H_
#define JEVONS_DATA_MIXTURE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace jevons {

class Mixture {
 public:
  struct Place {
    int64_t dataset = 0;
    int64_t local = 0;  // sample index inside the dataset's own stream
    bool operator==(const Place&) const = default;
  };

  // Weights in any unit. Zero means never; UsageError for a negative or non-finite weight, for all zero, or
  // for one below 1e-12 of the sum, which no run would ever draw.
  static absl::StatusOr<Mixture> Create(std::span<const double> weights, uint64_t seed);

  // Where global sample n comes from. REQUIRES: n >= 0.
  Place At(int64_t n) const;

  // How many of the first n samples come from each dataset: [datasets].
  std::vector<int64_t> Counts(int64_t n) const;

 private:
  // A share of what the stages before it left over. `share` and `phase` are in units of 2^-64.
  struct Stage {
    int64_t dataset;
    uint64_t share;
    uint64_t phase;
    int64_t Count(int64_t n) const;
  };

  int64_t datasets_ = 0;
  std::vector<Stage> stages_;  // all datasets of positive weight but the lightest
  int64_t last_ = 0;           // takes what is left
};

}  // namespace jevons

#endif  // JEVONS_DATA_MIXTURE_H_
