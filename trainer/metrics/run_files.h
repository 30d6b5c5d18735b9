// What a run writes beside its metrics, so that its files alone say what was trained, where and at what price:
//   RUN/config.textproto   the whole config, of the newest start
//   RUN/starts.jsonl       a line for each start of the run: machine, devices, price, and what the start before had lost
//   RUN/experts.jsonl      how many rows each expert got, now and then
#ifndef JEVONS_TRAINER_METRICS_RUN_FILES_H_
#define JEVONS_TRAINER_METRICS_RUN_FILES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "configs/run.pb.h"
#include "trainer/files/append_file.h"
#include "trainer/metrics/cost.h"

namespace jevons {

inline constexpr char kConfigFile[] = "config.textproto", kStartsFile[] = "starts.jsonl", kExpertsFile[] = "experts.jsonl";

// run.name, or its folder's where it is empty.
std::string RunName(const RunConfig& config, const std::string& run);

struct RunStart {
  double time = 0;   // seconds since 1970
  int64_t step = 0;  // steps done, of the checkpoint that it goes on from
  int ranks = 0;
  double devices = 0;                                // what is priced: cores of a CPU, GPUs
  std::string device;                                // "CPU core"
  std::optional<double> price_per_device_hour = {};  // dollars
  double peak_flops = 0;                             // of all devices together, FLOP/s
  std::string host, peak_source;                     // of the first rank; empty where the peak was given
  std::map<std::string, std::string> labels = {};    // version, instruction set, tokenizer
  int64_t lost_steps = 0;                            // that an earlier process had made, and this one makes again
  LostWork lost = {};
};

std::string ToStartLine(const RunStart& start);  // ends in a newline
std::optional<RunStart> FromStartLine(const std::string& line);
// RUN/config.textproto, every field with its default. IntegrityError where there is none, or it is not as a start wrote it.
absl::StatusOr<RunConfig> ReadRunConfig(const std::string& run);
std::vector<RunStart> ReadStarts(const std::string& run);  // those of its lines that are whole
// What starts that went on from the checkpoint of `step`, or of a later one that is gone, had lost: it is in no ledger but theirs.
LostWork LostAfter(int64_t step, std::span<const RunStart> starts);
// Writes the config and adds the start to its file.
absl::Status RecordStart(const std::string& run, const std::string& config_text, const RunStart& start);

struct ExpertLoads {
  int64_t step = 0;                          // steps done
  std::vector<std::vector<int64_t>> layers;  // of each MoE layer, MTP modules last: rows of each expert in the step's whole batch
};

// Some 64 steps for each doubling of their number: a record of a run's first steps, and of its course, whatever its length.
bool ExpertLoadsDue(int64_t step);
std::string ToExpertsLine(const ExpertLoads& loads);  // ends in a newline
std::optional<ExpertLoads> FromExpertsLine(const std::string& line);

class ExpertLog {
 public:
  static absl::StatusOr<ExpertLog> Open(const std::string& run);
  // Adds a step's where it is due. loads: [layers, experts] of StepStats; empty without experts.
  absl::Status Append(int64_t step, std::span<const int64_t> loads, int64_t experts);

 private:
  explicit ExpertLog(AppendFile file) : file_(std::move(file)) {}
  AppendFile file_;
};

}  // namespace jevons

#endif  // JEVONS_TRAINER_METRICS_RUN_FILES_H_
