// Where the ranks of a group are, for errors that blame one.
#ifndef JEVONS_PARALLEL_COMM_PLACES_H_
#define JEVONS_PARALLEL_COMM_PLACES_H_

#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace jevons {

// "rank 3 (node7)" of each rank of the group; world_rank: this one's number in the world. Collective.
std::vector<std::string> PlacesOf(Communicator& group, int world_rank);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_COMM_PLACES_H_
