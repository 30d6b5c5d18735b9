// One verdict for all ranks.
#ifndef JEVONS_TRAINER_CHECKPOINT_AGREEMENT_H_
#define JEVONS_TRAINER_CHECKPOINT_AGREEMENT_H_

#include "kernels/base/status.h"
#include "parallel/comm/communicator.h"

namespace jevons {

// Collective. Ok where every rank's `mine` is ok; else, everywhere, the status of the lowest rank whose is
// not.
absl::Status AgreeOnStatus(Communicator& world, const absl::Status& mine);

}  // namespace jevons

#endif  // JEVONS_TRAINER_CHECKPOINT_AGREEMENT_H_
