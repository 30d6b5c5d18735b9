// What the tests of pipeline schedules share: building, goldens, and a population of schedules.
#ifndef JEVONS_TESTS_PARALLEL_PIPELINE_PIPELINE_CASES_H_
#define JEVONS_TESTS_PARALLEL_PIPELINE_PIPELINE_CASES_H_

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/check.h"
#include "parallel/pipeline/schedules.h"
#include "tests/support/paths.h"

namespace jevons {

inline Schedule Make(ScheduleKind kind, int pp, int micro_batches, int virtual_stages = 1) {
  auto schedule = MakeSchedule({.kind = kind, .pp = pp, .micro_batches = micro_batches, .virtual_stages = virtual_stages});
  JEVONS_CHECK(schedule.ok(), "%s", std::string(schedule.status().message()).c_str());
  return *std::move(schedule);
}

inline Schedule Parse(const std::string& text) {
  auto schedule = ParseSchedule(text);
  JEVONS_CHECK(schedule.ok(), "%s", std::string(schedule.status().message()).c_str());
  return *std::move(schedule);
}

inline std::string GoldenText(const std::string& name) {
  std::stringstream text;
  text << std::ifstream(SourcePath("tests/golden/pipeline/") + name + ".txt").rdbuf();
  EXPECT_FALSE(text.str().empty()) << "no golden " << name;
  return text.str();
}

// Every kind with every legal size of a small range.
inline std::vector<ScheduleShape> SmallShapes(int largest_pp, int most_micro_batches) {
  std::vector<ScheduleShape> shapes;
  for (const ScheduleKind kind : kAllScheduleKinds) {
    for (int pp = 1; pp <= largest_pp; ++pp) {
      for (int m = 1; m <= most_micro_batches; ++m) {
        for (int v = 1; v <= 4; ++v) {
          const ScheduleShape shape = {.kind = kind, .pp = pp, .micro_batches = m, .virtual_stages = v};
          if (shape.Validate().ok()) shapes.push_back(shape);
        }
      }
    }
  }
  return shapes;
}

}  // namespace jevons

#endif  // JEVONS_TESTS_PARALLEL_PIPELINE_PIPELINE_CASES_H_
