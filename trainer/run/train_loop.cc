#include "trainer/run/train_loop.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "configs/differences.h"
#include "configs/load.h"
#include "data/loader.h"
#include "kernels/base/log.h"
#include "parallel/comm/heartbeat.h"
#include "parallel/comm/watchdog.h"
#include "trainer/checkpoint/agreement.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/files/folder_lock.h"
#include "trainer/run/memory_checkpoints.h"
#include "trainer/run/run_log.h"
#include "trainer/run/same_run.h"
#include "trainer/run/state.h"
#include "trainer/run/step_judge.h"
#include "trainer/step/planned_memory.h"

namespace jevons {
namespace {

using Clock = std::chrono::steady_clock;

class Run {
 public:
  Run(const TrainOptions& options, Communicator& world)
      : options_(options),
        config_(options.inputs.config),
        mesh_(world, MeshShapeOn(config_, world).value()),
        world_rank_(world.rank()),
        schedule_(config_),
        log_(options, config_, schedule_, world),
        step_(config_, mesh_),
        judge_(config_.train(), step_, mesh_.world()),
        writer_(PosixFileSystem(), Checkpoints(), world, static_cast<int>(config_.checkpoint().keep()),
                [this](int64_t step) { return schedule_.KeepsAfter(step); }) {}

  absl::Status Open();
  absl::Status Loop();
  MeasuredStep MeasureLastStep() { return step_.MeasureLastStep(); }
  RunSummary Summarize() const;

 private:
  bool root() { return mesh_.world().rank() == 0; }
  std::string Checkpoints() const { return options_.output + "/checkpoints"; }
  absl::StatusOr<std::optional<CheckpointReader>> NewestCheckpoint();
  absl::Status KeepOrder(const CheckpointReader& reader);
  absl::Status Resume(CheckpointReader& reader, const SampleStream& stream);
  absl::Status OfferOlder(const absl::Status& status);
  absl::Status CheckSameModel(const CheckpointReader& reader);
  absl::Status CheckSameRun(const CheckpointReader& reader, const SamplerState& saved);
  void BeginStage(int stage);
  void RequestStep(int64_t step);
  struct Ends {
    bool signal, spent;
  };
  Ends AgreeOnEnd();
  absl::Status Validate(int64_t step);
  CheckpointInfo InfoAfter(int64_t step);
  absl::Status Save(int64_t step);
  void KeepInMemory(int64_t step, bool ends) {
    memory_.AfterStep(step, ends, step_, [this](int64_t done) { return InfoAfter(done); });
  }
  absl::Status GoBack(const absl::Status& status, int64_t state);
  absl::Status ReportSave(const absl::StatusOr<std::optional<int64_t>>& committed, bool last);

  const TrainOptions& options_;
  RunConfig config_;
  Mesh mesh_;
  const int world_rank_;
  RunSchedule schedule_;
  RunLog log_;
  TrainStep step_;
  int stage_ = 0;  // that step_ is in
  StepJudge judge_;
  CheckpointWriter writer_;
  MemoryCheckpoints memory_;
  std::unique_ptr<Loader> loader_;
  std::optional<ValidationSet> validation_;
  double bytes_per_token_ = 0;
  int64_t first_step_ = 0, saving_ = 0, done_ = 0;  // steps done: at the start, by what was last given to writer_, and now
};

// What one rank cannot open or read, none goes on without; and a slow disk is no lost peer.
absl::Status OnDisk(Communicator& world, const std::function<absl::Status()>& work) {
  const WatchdogPhase phase("opening the run's files", kDiskPatience);
  return AgreeOnStatus(world, work());
}

absl::Status Run::Open() {
  std::optional<CheckpointReader> checkpoint;
  const auto open_checkpoint = [&]() -> absl::Status {
    JEVONS_ASSIGN_OR_RETURN(checkpoint, NewestCheckpoint());
    if (!checkpoint) return absl::OkStatus();
    JEVONS_RETURN_IF_ERROR(CheckSameModel(*checkpoint));
    return KeepOrder(*checkpoint);
  };
  JEVONS_RETURN_IF_ERROR(writer_.TakeOver());
  JEVONS_RETURN_IF_ERROR(OfferOlder(OnDisk(mesh_.world(), open_checkpoint)));
  if (options_.begins) options_.begins();
  std::optional<SampleStream> stream;
  const auto open_data = [&]() -> absl::Status {
    StreamConfig stream_config = options_.inputs.stream;
    stream_config.shuffle_samples = config_.data().shuffle_samples();
    JEVONS_ASSIGN_OR_RETURN(stream, SampleStream::Open(stream_config));
    if (options_.inputs.validation_prefix.empty()) {
      if (root()) LogWarning("the data has no validation set: training goes on without a validation loss");
      return absl::OkStatus();
    }
    JEVONS_ASSIGN_OR_RETURN(validation_, OpenValidation(options_.inputs));
    JEVONS_ASSIGN_OR_RETURN(bytes_per_token_, ValidationBytesPerToken(options_.inputs));
    return absl::OkStatus();
  };
  JEVONS_RETURN_IF_ERROR(OnDisk(mesh_.world(), open_data));
  JEVONS_RETURN_IF_ERROR(AgreeOnBytes(mesh_.world(), "the training data's files are", stream->StateAt(0).Serialize()));
  if (checkpoint) {
    JEVONS_RETURN_IF_ERROR(OfferOlder(OnDisk(mesh_.world(), [&] { return Resume(*checkpoint, *stream); })));
    step_.RestoreWeights();
  } else {
    step_.Initialize();
  }
  const StepPlan first = schedule_.At(first_step_);
  if (checkpoint)
    LogInfo(
        absl::StrFormat("resumed after step %d from %s; the next sample is %d", first_step_, Checkpoints(), first.first_sample));
  if (const std::string warning = stream->OneDocumentWarning(first.sequences); root() && !warning.empty()) LogWarning(warning);
  const auto open_folder = [&]() -> absl::Status {
    if (!root()) return absl::OkStatus();
    JEVONS_RETURN_IF_ERROR(KeepTokenizer(options_.inputs, options_.output));
    return log_.Open(first_step_);
  };
  JEVONS_RETURN_IF_ERROR(OnDisk(mesh_.world(), open_folder));
  loader_ = std::make_unique<Loader>(*std::move(stream));
  memory_.Open(mesh_.world(), options_.memory_folder, config_.checkpoint().memory_interval(), writer_.epoch());
  return absl::OkStatus();
}

absl::Status Run::CheckSameModel(const CheckpointReader& reader) {
  JEVONS_RETURN_IF_ERROR(CheckTokenizer(options_.inputs, reader.labels()));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig before, StageConfigOf(reader));
  const RunConfig& stage = schedule_.stage(schedule_.StageOf(std::max<int64_t>(0, reader.step() - 1)));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig now, ParseRunConfig(ResolvedText(stage), "this config", {}));
  const std::string changed = Differences(before.model(), now.model());
  if (changed.empty()) return absl::OkStatus();
  return UsageError(
      absl::StrFormat("%s holds another model; give its config, or another --output. model: %s", reader.path(), changed));
}

// A run goes on as the same run: the same network on the next sample. What else was changed is said.
absl::Status Run::CheckSameRun(const CheckpointReader& reader, const SamplerState& saved) {
  JEVONS_ASSIGN_OR_RETURN(RunConfig before, RunConfigOf(reader));
  JEVONS_ASSIGN_OR_RETURN(const RunConfig now, ParseRunConfig(ResolvedText(config_), "this config", {}));
  const int64_t next = schedule_.At(reader.step()).first_sample;
  if (saved.next_sample != next)
    return UsageError(
        absl::StrFormat("train.batch_sequences = %d, its ramp and train.stage: after %d steps they are at sample %d, but %s has "
                        "used %d samples; give the "
                        "batch sizes and stages of the checkpoint, or samples would be skipped or repeated",
                        config_.train().batch_sequences(), reader.step(), next, reader.path(), saved.next_sample));
  const auto report = [&](const char* part, const google::protobuf::Message& a, const google::protobuf::Message& b) {
    if (const std::string changed = Differences(a, b); root() && !changed.empty())
      LogWarning(absl::StrFormat("changed since the checkpoint in %s: %s", part, changed));
  };
  before.mutable_data()->set_shuffle_samples(saved.shuffle_samples);  // an older config does not say it
  report("data", before.data(), now.data());
  report("train", before.train(), now.train());
  report("optimizer", before.optimizer(), now.optimizer());
  report("balance", before.balance(), now.balance());
  report("precision", before.precision(), now.precision());
  return absl::OkStatus();
}

absl::StatusOr<std::optional<CheckpointReader>> Run::NewestCheckpoint() {
  FileSystem& files = PosixFileSystem();
  JEVONS_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, CommittedSteps(files, Checkpoints()));
  if (steps.empty()) return std::optional<CheckpointReader>();
  JEVONS_ASSIGN_OR_RETURN(const std::string path, CheckpointPath(files, Checkpoints(), steps.back()));
  return CheckpointReader::Open(files, path);
}

// A run that does not say how its samples are ordered goes on in the order it was begun with, or a default that came after it would
// end it.
absl::Status Run::KeepOrder(const CheckpointReader& reader) {
  if (reader.step() == 0 || config_.data().has_shuffle_samples()) return absl::OkStatus();
  JEVONS_ASSIGN_OR_RETURN(const SamplerState saved, SamplerState::Parse(reader.sampler_state()));
  config_.mutable_data()->set_shuffle_samples(saved.shuffle_samples);
  return absl::OkStatus();
}

absl::Status Run::Resume(CheckpointReader& reader, const SampleStream& stream) {
  if (reader.step() > 0) {  // an imported checkpoint has seen no sample: any data and batch will do
    JEVONS_ASSIGN_OR_RETURN(const SamplerState saved, SamplerState::Parse(reader.sampler_state()));
    JEVONS_RETURN_IF_ERROR(CheckSameRun(reader, saved));
    JEVONS_RETURN_IF_ERROR(stream.CheckState(saved));
  }
  JEVONS_RETURN_IF_ERROR(LoadState(reader, step_));
  if (!log_.Parse(reader.cost_state())) return IntegrityError(reader.path() + ": the cost ledger cannot be read");
  if (!judge_.Parse(reader.step_history())) return IntegrityError(reader.path() + ": the history of steps cannot be read");
  done_ = first_step_ = reader.step();
  return absl::OkStatus();
}

// Where the newest checkpoint is damaged, an older one may do.
absl::Status Run::OfferOlder(const absl::Status& status) {
  return absl::IsDataLoss(status) ? OfferNewestGood(PosixFileSystem(), Checkpoints(), status) : status;
}

// Weights, moments and the next sample are what they were. A validation is of the stage's length from here on.
void Run::BeginStage(int stage) {
  if (stage == stage_) return;
  stage_ = stage;
  const RunConfig& config = schedule_.stage(stage);
  step_.BeginStage(config);
  log_.BeginStage(config);
  if (validation_) validation_->Cut(config.data().sequence_length());
  if (root())
    LogInfo(absl::StrFormat("train.stage[%d]: from here on %d sequences of %d tokens a step", stage - 1,
                            config.train().batch_sequences(), config.data().sequence_length()));
}

void Run::RequestStep(int64_t step) {
  const StepPlan plan = schedule_.At(step);
  const Range samples = step_.SamplesOf(plan.sequences);
  loader_->Request(plan.first_sample + samples.begin, samples.size());
}

// A signal may have come to any rank; the first rank's ledger says what is spent.
Run::Ends Run::AgreeOnEnd() {
  const double dollars = config_.train().dollars();
  int64_t signs[] = {options_.stop != nullptr ? options_.stop->load() : 0,
                     root() && dollars > 0 && log_.ledger().dollars() >= dollars};
  mesh_.world().AllReduceMax(signs);
  return {signs[0] != 0, signs[1] != 0};
}

absl::Status Run::Loop() {
  const int64_t steps = schedule_.steps();
  if (AgreeOnEnd().spent || first_step_ >= steps) {
    LogInfo(DoneText(config_.train(), schedule_, first_step_, log_.ledger()));
    return absl::OkStatus();
  }
  step_.timer().Take();  // opening is no step's
  if (first_step_ == 0 && validation_) JEVONS_RETURN_IF_ERROR(Validate(0));
  bool due = false;  // a save; it waits for a good step: those of weights that give bad ones would push out the good ones
  for (int64_t step = first_step_; step < steps; ++step) {
    const auto begin = Clock::now();
    SetWatchdogStep(step);
    const StepPlan plan = schedule_.At(step);
    if (step == first_step_ || plan.stage != stage_) {
      BeginStage(plan.stage);
      RequestStep(step);
    }
    if (step + 1 < steps && schedule_.StageOf(step + 1) == stage_) RequestStep(step + 1);
    step_.timer().Switch(Phase::kData);
    JEVONS_ASSIGN_OR_RETURN(const SampleBatch* batch, loader_->Next());
    step_.timer().Switch(Phase::kOther);
    const JudgedStep judged = judge_.Run(plan, *batch);
    if (judged.bad) log_.BadStep(plan, judged);
    if (!judged.status.ok()) return GoBack(judged.status, judge_.suspect());
    done_ = step + 1;
    if (!judged.bad) log_.Step(plan, judged.stats, std::chrono::duration<double>(Clock::now() - begin).count());

    const Ends ends = AgreeOnEnd();
    const bool last = step + 1 == steps || ends.spent, stop = ends.signal;
    const int64_t eval = config_.train().eval_interval(), save = config_.checkpoint().interval();
    if (validation_ && (last || (eval > 0 && (step + 1) % eval == 0)))
      if (const absl::Status status = Validate(step + 1); !status.ok())
        return absl::IsOutOfRange(status) ? GoBack(status, step + 1) : status;
    if (!judged.bad || last || stop) KeepInMemory(step + 1, last || stop);
    JEVONS_RETURN_IF_ERROR(ReportSave(writer_.Poll(), false));
    due = due || (save > 0 && (step + 1) % save == 0) || schedule_.KeepsAfter(step + 1);
    if (last || stop || (due && !judged.bad)) {
      due = false;
      if (const absl::Status same = judge_.CheckBeforeSave(step + 1); !same.ok()) return GoBack(same, judge_.suspect());
      if (const absl::Status begun = Save(step + 1); !begun.ok()) JEVONS_RETURN_IF_ERROR(ReportSave(begun, last || stop));
    }
    if (!last && !stop) continue;
    {
      PhaseScope phase(&step_.timer(), Phase::kCheckpoint);
      JEVONS_RETURN_IF_ERROR(ReportSave(writer_.Finish(), true));
    }
    log_.Add(step_.timer().Take());
    log_.ChargeNow();
    if (last) return absl::OkStatus();
    return PreemptedError(
        absl::StrFormat("stopped by a signal after step %d with a committed checkpoint in %s; the same "
                        "command goes on from there",
                        step + 1, Checkpoints()));
  }
  return absl::OkStatus();
}

absl::Status Run::Validate(int64_t step) {
  const auto evaluated = step_.Evaluate(*validation_, config_.train().eval_sequences());
  const double seconds = step_.timer().Take(Phase::kValidation);
  PhaseTimer::Seconds between{};
  between[static_cast<size_t>(Phase::kValidation)] = seconds;
  log_.Add(between);
  if (!evaluated.ok()) {
    if (absl::IsOutOfRange(evaluated.status())) log_.NonFiniteValidation(step);
    return Annotate(evaluated.status(), absl::StrFormat("validation after step %d, of which nothing is saved", step));
  }
  const double bits = bytes_per_token_ > 0 ? evaluated->loss / std::log(2.0) / bytes_per_token_ : 0;
  log_.Validation(step, *evaluated, bits, seconds);
  return absl::OkStatus();
}

// After NaN or Inf, on every rank, in what was computed from the weights after `state` steps, or where these may be a faulty machine's. A
// save of theirs that is under way is given up, and their copy in memory: those before it stay. An older one is worth committing. `status`
// with where to go on from.
absl::Status Run::GoBack(const absl::Status& status, int64_t state) {
  KeepInMemory(state, /*ends=*/true);
  memory_.Forget(state);
  if (saving_ < state) JEVONS_RETURN_IF_ERROR(ReportSave(writer_.Finish(), false));
  return root() ? AdviseToGoBack(status, Checkpoints(), state) : status;
}

CheckpointInfo Run::InfoAfter(int64_t step) {
  return {.step = step,
          .config_text = ResolvedText(config_),
          .sampler_state = loader_->StateAt(schedule_.At(step).first_sample).Serialize(),
          .cost_state = log_.Serialize(),
          .step_history = judge_.Serialize(),
          .labels = options_.labels};
}

absl::Status Run::Save(int64_t step) {
  PhaseScope phase(&step_.timer(), Phase::kCheckpoint);
  saving_ = step;
  return writer_.Begin(InfoAfter(step), SlicesOf(step_.State()), step_.stream());
}

// A save that failed on its way is no reason to stop: the checkpoints before it are whole. At the end it is a failure.
absl::Status Run::ReportSave(const absl::StatusOr<std::optional<int64_t>>& committed, bool last) {
  if (committed.ok()) {
    if (committed->has_value()) LogInfo(absl::StrFormat("checkpoint of step %d committed", **committed));
    return absl::OkStatus();
  }
  if (last || ExitCodeOf(committed.status()) == ExitCode::kPeerLost)
    return committed.status();  // of a run that another has taken over nothing counts
  if (root())
    LogWarning(absl::StrFormat("checkpoint not saved, training goes on: %s", std::string(committed.status().message())));
  return absl::OkStatus();
}

RunSummary Run::Summarize() const {
  RunSummary summary;
  summary.steps = done_;
  log_.Summarize(summary);
  if (summary.exchanged.tokens > 0) {
    const MeshShape& shape = mesh_.shape();
    const RoutingShape routing = RoutingOf(config_.model().moe());
    const ExpectedTraffic even = Expect(
        routing,
        {.experts = routing.experts, .groups = routing.groups, .nodes = shape.ep_nodes, .locals = shape.ep / shape.ep_nodes});
    summary.even_network_rows = shape.forwards ? even.rows : even.pairs;
  }
  summary.memory = step_.memory();
  summary.memory_ledger = step_.memory_ledger();
  summary.peak_load = step_.peak_load();
  summary.planned = PlanMemory(config_, mesh_.shape(), world_rank_, step_.peak_load()).use;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  summary.resident_bytes = int64_t{usage.ru_maxrss} * 1024;
  return summary;
}

}  // namespace

absl::StatusOr<RunSummary> Train(const TrainOptions& options, Communicator& world) {
  FolderLock lock;
  const auto open_folder = [&]() -> absl::Status {
    if (world.rank() > 0) return absl::OkStatus();
    std::error_code error;
    std::filesystem::create_directories(options.output + "/tensorboard", error);
    if (error)
      return FailureError(
          absl::StrFormat("%s: cannot make the folder: %s; choose another --output", options.output, error.message()));
    return lock.Take(options.output);
  };
  JEVONS_RETURN_IF_ERROR(OnDisk(world, open_folder));
  Run run(options, world);
  JEVONS_RETURN_IF_ERROR(run.Open());
  JEVONS_RETURN_IF_ERROR(run.Loop());
  HeartbeatEnding();
  MeasuredStep last_step;
  if (options.measure_last_step) last_step = run.MeasureLastStep();
  RunSummary summary = run.Summarize();
  summary.last_step = std::move(last_step);
  return summary;
}

}  // namespace jevons
