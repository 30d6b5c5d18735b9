// A communicator without anybody behind it: it has a rank and a size, and does nothing. A step that only counts its memory
// (Device::kNone) is given these.
#ifndef JEVONS_PARALLEL_COMM_PRETEND_H_
#define JEVONS_PARALLEL_COMM_PRETEND_H_

#include <memory>
#include <string>

#include "parallel/comm/communicator.h"

namespace jevons {

// Values and buffers stay as they are, and every transfer is done when it begins. It cannot Split: others' colours are not known here.
// Whoever knows the members by arithmetic makes another (parallel/mesh.h).
std::unique_ptr<Communicator> Pretend(int rank, int size, const std::string& name);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_PRETEND_H_
