// Tests under mpirun: a test executable of RANKS n links mpi_main.cc and finds its world here.
#ifndef JEVONS_TESTS_SUPPORT_MPI_WORLD_H_
#define JEVONS_TESTS_SUPPORT_MPI_WORLD_H_

#include "parallel/comm/communicator.h"

namespace jevons {

// The communicator of all ranks, alive while the tests run. Every rank runs every test; a failure on one
// fails all.
Communicator& TestWorld();

}  // namespace jevons

#endif  // JEVONS_TESTS_SUPPORT_MPI_WORLD_H_
