#include "data/prepare/split.h"

#include <algorithm>
#include <utility>

#include "kernels/base/philox.h"

namespace jevons {
namespace {

constexpr uint64_t kPurpose = 0x7072657000000001;  // "prep", 1; part of what a seed means: never renumber it

double Draw(uint64_t seed, int64_t document) { return RandomUniform(seed, kPurpose, static_cast<uint64_t>(document)); }

}  // namespace

ValidationSplit::ValidationSplit(int64_t documents, double fraction, uint64_t seed)
    : fraction_(fraction), seed_(seed), has_validation_(fraction > 0 && documents > 1) {
  if (fraction <= 0 || documents == 0) return;
  std::pair<double, int64_t> lowest = {Draw(seed, 0), 0};
  std::pair<double, int64_t> highest = lowest;
  for (int64_t d = 1; d < documents; ++d) {
    const std::pair<double, int64_t> draw = {Draw(seed, d), d};
    lowest = std::min(lowest, draw);
    highest = std::max(highest, draw);
  }
  if (lowest.first >= fraction && has_validation_) forced_validation_ = lowest.second;
  if (highest.first < fraction) forced_training_ = highest.second;
}

bool ValidationSplit::IsValidation(int64_t document) const {
  if (document == forced_training_) return false;
  return document == forced_validation_ || Draw(seed_, document) < fraction_;
}

}  // namespace jevons
