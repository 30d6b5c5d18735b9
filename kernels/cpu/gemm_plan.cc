#include "kernels/cpu/gemm_plan.h"

#include <omp.h>

#include <algorithm>
#include <vector>

namespace jevons::cpu {
namespace {

constexpr double kFlopsPerThread = 2e6;  // below about 10 us of work a thread costs more than it brings
constexpr int64_t kMinTileRows = 96;     // fewer would make packing B, paid once per rectangle, too dear
constexpr int64_t kTasksPerThread = 4;

// Neighbouring products that share B, cut into a grid of rectangles.
struct Group {
  std::span<const GemmDesc> descs;
  int64_t rows, cols;
  int64_t row_tiles, col_tiles;
  int64_t tasks_end;  // number of tasks up to and including this group
};

bool ShareB(const GemmDesc& x, const GemmDesc& y) {
  return x.b.data == y.b.data && x.b_form == y.b_form && x.b.pitch == y.b.pitch && x.b.dtype == y.b.dtype && x.n() == y.n() &&
         x.k() == y.k();
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Tiles no larger than the limits, and enough of them to keep `threads` busy where rows allow.
Group MakeGroup(std::span<const GemmDesc> descs, int threads) {
  Group group{descs, 0, descs.front().n(), 0, 0, 0};
  for (const GemmDesc& desc : descs) group.rows += desc.m();
  group.col_tiles = CeilDiv(group.cols, kTileCols);
  group.row_tiles = CeilDiv(group.rows, kTileRows);
  if (threads > 1 && group.col_tiles > 0) {
    const int64_t wanted = CeilDiv(kTasksPerThread * threads, group.col_tiles);
    group.row_tiles = std::max(group.row_tiles, std::min(wanted, group.rows / kMinTileRows));
  }
  return group;
}

// Part i of n columns: whole vectors, so that only the last part has a ragged edge.
Range ColumnsOf(const Group& group, int64_t i) {
  const Range vectors = BlockOf(CeilDiv(group.cols, kMaxLanes), group.col_tiles, i);
  return {vectors.begin * kMaxLanes, std::min(vectors.end * kMaxLanes, group.cols)};
}

GemmTile TileOf(const std::vector<Group>& groups, int64_t task) {
  const auto group =
      std::upper_bound(groups.begin(), groups.end(), task, [](int64_t t, const Group& g) { return t < g.tasks_end; });
  const int64_t local = task - (group->tasks_end - group->row_tiles * group->col_tiles);
  return {group->descs, BlockOf(group->rows, group->row_tiles, local % group->row_tiles),
          ColumnsOf(*group, local / group->row_tiles)};
}

int UsefulThreads(std::span<const GemmDesc> descs) {
  if (omp_in_parallel()) return 1;
  double flops = 0;
  for (const GemmDesc& desc : descs) flops += 2.0 * desc.m() * desc.n() * desc.k();
  return std::clamp(static_cast<int>(flops / kFlopsPerThread), 1, omp_get_max_threads());
}

}  // namespace

void RunTiles(std::span<const GemmDesc> descs, absl::FunctionRef<void(const GemmTile&, const GemmScratch&)> run_tile) {
  const int threads = UsefulThreads(descs);
  thread_local std::vector<Group> groups;  // kept, so that a step allocates nothing
  groups.clear();
  int64_t tasks = 0;
  for (size_t begin = 0, end; begin < descs.size(); begin = end) {
    for (end = begin + 1; end < descs.size() && ShareB(descs[begin], descs[end]); ++end) continue;
    Group group = MakeGroup(descs.subspan(begin, end - begin), threads);
    group.tasks_end = tasks += group.row_tiles * group.col_tiles;
    groups.push_back(group);
  }
  const std::vector<Group>& plan = groups;  // the calling thread's, shared with its team
  if (threads == 1) {
    const GemmScratch scratch = GemmScratch::OfThisThread();
    for (int64_t task = 0; task < tasks; ++task) run_tile(TileOf(plan, task), scratch);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const GemmScratch scratch = GemmScratch::OfThisThread();
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; ++task) run_tile(TileOf(plan, task), scratch);
  }
}

}  // namespace jevons::cpu
