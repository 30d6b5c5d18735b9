// Published speeds beside predicted ones: a table of runs (CSV), the shapes of their models, the clusters' tables.
#ifndef JEVONS_TRAINER_PLAN_PUBLISHED_H_
#define JEVONS_TRAINER_PLAN_PUBLISHED_H_

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "trainer/plan/planner.h"

namespace jevons {

// One line of the table, as published. Columns are known by their names in the first line, in any order; other columns are
// passed over (but not misspelt ones), and an empty cell is "not stated". Needed: model, hardware, gpus.
struct PublishedRun {
  int line = 0;
  std::string source, model, hardware, precision, notes;
  int64_t gpus = 0;
  std::optional<int64_t> seq, gbs, mbs, tp, pp, cp, vpp, ep;
  std::optional<double> tokens_per_s, tflops, mem_gb;
  bool in_sight = false;  // known when constants were chosen: its error says how well they fit, not how well they predict
};
// '#' begins a comment line; cells may be quoted. Usage errors name the line, the column and the value.
absl::StatusOr<std::vector<PublishedRun>> ParsePublished(const std::string& text, const std::string& name);

// configs/published/models.textproto and configs/clusters/*.textproto below `configs`.
class PublishedWorld {
 public:
  static absl::StatusOr<PublishedWorld> Load(const std::string& configs);
  // Names are compared by letters and digits; UsageError with the known ones.
  absl::StatusOr<ModelShape> Model(const std::string& name) const;
  // "any" is a GPU without a memory limit.
  absl::StatusOr<ClusterConfig> Cluster(const std::string& hardware, int64_t gpus) const;

 private:
  std::vector<std::pair<std::string, ModelShape>> models_;  // by plain name
  std::vector<ClusterConfig> clusters_;
};

struct Prediction {
  PublishedRun run;
  absl::Status status;  // why there is none
  std::optional<Plan> plan;
  std::string assumed;  // what the row does not state and the prediction supposes
  // Relative errors of the prediction, where the row has the figure: of tokens/s (or TFLOPS where that is all), of memory (mean of the ranks).
  std::optional<double> speed_error, memory_error;
};
// No layout is guessed: a row of several GPUs must state tp, pp and, of a model with experts, ep. What else it leaves open is chosen by
// fixed rules, the same for all: README.md.
Prediction Predict(const PublishedRun& run, const PublishedWorld& world, const Constants& constants = {});

nlohmann::ordered_json ValidationJson(const std::vector<Prediction>& predictions);
std::string ValidationText(const std::vector<Prediction>& predictions);

}  // namespace jevons

#endif  // JEVONS_TRAINER_PLAN_PUBLISHED_H_
