// Measurements among the tests: how often something is tried, and the line in which the report card (tests/reliability/run.sh) reads what
// came of it.
#ifndef JEVONS_TESTS_SUPPORT_TRIALS_H_
#define JEVONS_TESTS_SUPPORT_TRIALS_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace jevons {

// `few`, times JEVONS_TRIALS from the environment: the report card takes more than a test has time for.
inline int64_t Trials(int64_t few) {
  const char* const times = std::getenv("JEVONS_TRIALS");
  return few * (times == nullptr ? 1 : std::max(1L, std::strtol(times, nullptr, 10)));
}

// One line on stdout: trials|KEY|trials|seeds|what was seen|figure|lost. `key` names a row of the report card; `seeds` says which trials
// these are, or "all"; `figure` is in the row's unit, empty where it has none. `lost`: failures of trials; those of the test count as one.
inline void ReportTrials(const std::string& key, int64_t trials, const std::string& seeds, const std::string& seen,
                         const std::string& figure = "", int64_t lost = 0) {
  if (lost == 0 && testing::Test::HasFailure()) lost = 1;
  std::printf("trials|%s|%lld|%s|%s|%s|%lld\n", key.c_str(), static_cast<long long>(trials), seeds.c_str(), seen.c_str(),
              figure.c_str(), static_cast<long long>(lost));
}

// The value below which `share` of the values lie, the nearest rank; 0 where there are none.
inline double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(share * static_cast<double>(values.size()) + 0.999999);
  return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_TRIALS_H_
