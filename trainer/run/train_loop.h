// A whole training run on one rank: open, resume, step, log, validate, save, stop.
//
// OUTPUT/
//   checkpoints/step-NNNNNNNN/   the last checkpoint.keep of them; the newest is where the same command goes on
//   tokenizer.json               the data's, and what belongs to it: the run can be used where the data is gone
//   config.textproto, starts.jsonl, experts.jsonl   what is trained, and by which processes; rows of the experts (metrics/run_files.h)
//   metrics.jsonl                one record per step; the source of every other view
//   tensorboard/                 the same as event files
//   summary.json                 written when the run has made its last step
#ifndef JEVONS_TRAINER_RUN_TRAIN_LOOP_H_
#define JEVONS_TRAINER_RUN_TRAIN_LOOP_H_

#include <atomic>
#include <functional>
#include <map>
#include <string>

#include "kernels/base/status.h"
#include "trainer/run/progress.h"
#include "trainer/run/run_inputs.h"

namespace jevons {

struct TrainOptions {
  RunInputs inputs;  // validated
  std::string output;
  Meter meter;
  bool measure_last_step = false;
  std::string memory_folder = {};             // for checkpoints in memory, of that name on every host; "": nobody keeps them
  const std::atomic<int>* stop = nullptr;     // a signal's number once one has come: save and return PreemptedError
  std::map<std::string, std::string> labels;  // kept in checkpoints: instruction set, version
  std::function<void()> begins = {};  // called once it is known that the run is this config's: time to say what is trained
};

struct RunSummary {
  int64_t steps = 0;
  Meter meter;                   // of the options, with the peak that the run began with
  CostLedger ledger;             // over all restarts
  double training_flops = 0;     // of its tokens, MTP modules included
  double seconds = 0;            // wall time of this process's steps
  double tokens_per_second = 0;  // over them
  PhaseTimer::Seconds phases{};  // of this process from its first step on, with what is between steps
  double mfu = 0;
  double dispatch_bytes_per_token = 0, combine_bytes_per_token = 0;  // between ranks
  Traffic exchanged;                                                 // by this process's steps
  double even_network_rows = 0;  // a token would send over the network if all choices of experts were equally likely
  double first_validation = 0, last_validation = 0;  // nats per token; 0: there was none; NaN where it was that
  double bits_per_byte = 0;                          // of the last validation; 0: not known
  double max_over_mean = 0;                          // expert load of the last step
  int64_t dead_experts = 0;
  MemoryUse memory, planned;  // of this rank; planned for peak_load
  MemoryLedger memory_ledger;
  double peak_load = 0;        // most rows at this rank's experts in a micro-batch, relative to an even load
  int64_t resident_bytes = 0;  // the process's peak, as the system counts it
  MeasuredStep last_step;      // where it was asked for, on rank 0
};

// Collective over world. PreemptedError after a signal, with a committed checkpoint; NumericalError after NaN or Inf, with the
// last good checkpoint in place.
absl::StatusOr<RunSummary> Train(const TrainOptions& options, Communicator& world);

// For people, and for programs (one JSON object).
std::string SummaryText(const RunSummary& summary, const TrainOptions& options);
// Where no price is known its dollars are null.
std::string SummaryJson(const RunSummary& summary);

}  // namespace jevons

#endif  // JEVONS_TRAINER_RUN_TRAIN_LOOP_H_
