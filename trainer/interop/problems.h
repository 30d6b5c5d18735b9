// What is wrong with the parts of a checkpoint, told at once.
#ifndef JEVONS_TRAINER_INTEROP_PROBLEMS_H_
#define JEVONS_TRAINER_INTEROP_PROBLEMS_H_

#include <string>
#include <vector>

#include "kernels/base/status.h"

namespace jevons {

// Ok if there are none; else an IntegrityError with a line for each, after one that names `path` and counts them.
absl::Status ProblemsStatus(const std::string& path, const std::vector<std::string>& problems);

}  // namespace jevons

#endif  // JEVONS_TRAINER_INTEROP_PROBLEMS_H_
