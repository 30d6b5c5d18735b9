// Whether all ranks of a job were started as one run (contract 14): nodes may have different copies of the config, of the program or
// of the data, and their ranks would train a mixture of both without a word.
#ifndef JEVONS_TRAINER_RUN_SAME_RUN_H_
#define JEVONS_TRAINER_RUN_SAME_RUN_H_

#include <map>
#include <string>

#include "configs/run.pb.h"
#include "kernels/base/status.h"
#include "parallel/comm/communicator.h"

namespace jevons {

struct RankIdentity {
  RunConfig config;                          // resolved as far as the command resolves it
  std::map<std::string, std::string> facts;  // what else must be equal, by name: "program", "tokenizer", ...
};

// Collective, and the first call of a command that several ranks run, made by a rank without a config too. Ok where every rank has
// an identity and all are equal. Else one error on all ranks: that of the lowest rank that has one, with rank and host before it
// unless all ranks say the same; or UsageError naming the lowest rank that differs from rank 0, its host, and what differs. The
// products' implementations (GemmImplementation) count; fields that only say where things lie on a host, and its threads, do not.
absl::Status AgreeOnRun(Communicator& world, const absl::StatusOr<RankIdentity>& mine);

// Collective. UsageError on all ranks where `mine` is not rank 0's on some rank: "rank 3 (host): NAME ...".
absl::Status AgreeOnBytes(Communicator& world, const std::string& name, const std::string& mine);

}  // namespace jevons

#endif  // JEVONS_TRAINER_RUN_SAME_RUN_H_
