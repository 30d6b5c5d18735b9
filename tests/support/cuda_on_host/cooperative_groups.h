// Clusters, as far as kernels/cuda uses them; see cuda_runtime_api.h.
#ifndef JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_COOPERATIVE_GROUPS_H_
#define JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_COOPERATIVE_GROUPS_H_

#include <cuda_runtime_api.h>

namespace cooperative_groups {

struct cluster_group {
  void sync() const { cuda_on_host::SyncCluster(); }
  unsigned block_rank() const { return cuda_on_host::ClusterRank(); }
  unsigned num_blocks() const { return cuda_on_host::ClusterSize(); }
  template <typename T>
  T* map_shared_rank(T* shared, int rank) const {
    return static_cast<T*>(cuda_on_host::OfRank(shared, static_cast<unsigned>(rank)));
  }
};
inline cluster_group this_cluster() { return {}; }

}  // namespace cooperative_groups

#endif  // JEVONS_TESTS_SUPPORT_CUDA_ON_HOST_COOPERATIVE_GROUPS_H_
