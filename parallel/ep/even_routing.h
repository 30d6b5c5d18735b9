// Where tokens go that choose evenly among the experts that the gate lets them: plain arithmetic, for plans and for what counters show.
#ifndef JEVONS_PARALLEL_EP_EVEN_ROUTING_H_
#define JEVONS_PARALLEL_EP_EVEN_ROUTING_H_

#include <cstdint>

#include "kernels/base/partition.h"

namespace jevons {

// How tokens choose: of `groups` groups of experts the best `kept`, of their experts the best `slots`.
struct RoutingShape {
  int64_t experts = 1, groups = 1, kept = 1, slots = 1;
};

// The chance that a token has at least one of `experts`, all choices being equally likely.
double ChanceOf(const RoutingShape& shape, Range experts);

}  // namespace jevons

#endif  // JEVONS_PARALLEL_EP_EVEN_ROUTING_H_
