// How the network is cut into the stages of a pipeline: arithmetic of the config alone.
#ifndef JEVONS_TRAINER_SPEC_STAGE_CUT_H_
#define JEVONS_TRAINER_SPEC_STAGE_CUT_H_

#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "kernels/base/partition.h"
#include "kernels/base/status.h"
#include "trainer/spec/params.h"

namespace jevons {

// A contiguous part of the network. The first has the embedding, the last the final norm, the head and all MTP modules.
struct StagePart {
  Range layers;  // blocks of the main model; may be empty
  bool first = true, last = true;
  bool operator==(const StagePart&) const = default;
};

// The parts of `stages` stages. text: one number of layers for each stage, as in "E5|4*14|MH": parts divided by '|', "4*14" being
// fourteen stages of four layers; E, M and H say where the embedding, the MTP modules and the head are, and may be left out.
// Empty: cut evenly, head and modules weighing as much as layers with as many products; stages are empty only where there are more
// than parts.
// UsageError naming parallel.stages, the value and what it must add up to.
absl::StatusOr<std::vector<StagePart>> CutIntoStages(const ModelConfig& model, int stages, const std::string& text);

// The text that makes this cut, "3|4*14|2".
std::string StagesText(const std::vector<StagePart>& parts);

// Whether the part computes with the parameters at this place in the order of execution (ParamSpec::layer). The embedding is with the
// first stage, and with the last if MTP reads it.
bool Holds(const StagePart& part, int layer, const ModelConfig& model);

// "stage 0: embedding, layers 0 to 4", one line for each stage.
std::string StageMapText(const std::vector<StagePart>& parts, const ModelConfig& model);

}  // namespace jevons

#endif  // JEVONS_TRAINER_SPEC_STAGE_CUT_H_
