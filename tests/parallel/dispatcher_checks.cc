#include "tests/parallel/dispatcher_checks.h"

#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/philox.h"
#include "parallel/ep/dispatcher.h"
#include "tests/parallel/stream_memory.h"

namespace jevons {
namespace {

constexpr int64_t kWidth = 3;
using Row = std::vector<int32_t>;  // [kWidth]: source rank, expert, number of the row among those of that
                                   // source and expert

void Append(const Row& row, std::vector<int32_t>& rows) { rows.insert(rows.end(), row.begin(), row.end()); }

// Sends int32 rows to their experts, compares what arrives, and what lies by expert, segment by segment, and combines the very same
// rows back. The way back begins without a look at what came.
void CheckRows(Dispatcher& dispatcher, const DispatchHandle& handle, const std::vector<int32_t>& sent,
               const std::vector<int32_t>& expected, StreamMemory& memory, const Stream& stream) {
  const auto unwritten = [&](int64_t rows) { return memory.Put(std::vector<int32_t>(rows * kWidth, -1)); };
  const Tensor send = Tensor::Of(memory.Put(sent), {handle.send_rows, kWidth});
  const Tensor receive = Tensor::Of(unwritten(handle.receive_rows), {handle.receive_rows, kWidth});
  const Tensor by_expert = Tensor::Of(unwritten(handle.receive_rows), receive.shape), leaving = Tensor::Of(unwritten(handle.receive_rows), receive.shape);
  const Tensor returned = Tensor::Of(unwritten(handle.send_rows), {handle.send_rows, kWidth});
  Arena scratch("scratch", int64_t{1} << 20, stream.device);
  const OpContext ops{.stream = stream, .scratch = &scratch};
  std::vector<CopiedPart> parts;
  dispatcher.Finish(dispatcher.BeginDispatch(handle, send, receive));
  handle.ByExpert(receive, by_expert, parts);
  CopyParts(ops, parts);
  parts.clear();
  handle.BySource(by_expert, leaving, parts);
  CopyParts(ops, parts);
  dispatcher.Finish(dispatcher.BeginCombine(handle, leaving, returned));
  EXPECT_EQ(memory.Get(returned.as<int32_t>(), sent.size()), sent);
  ASSERT_EQ(memory.Get(receive.as<int32_t>(), expected.size()), expected);
  const std::vector<int32_t> received = memory.Get(by_expert.as<int32_t>(), expected.size());
  if (handle.arrives_by_expert()) {
    EXPECT_EQ(received, expected);
  }
  for (int64_t expert = 0; expert < handle.local_experts; ++expert) {
    EXPECT_EQ(handle.Expert(expert).begin, handle.Segment(expert, 0).begin);
    EXPECT_EQ(handle.Expert(expert).end, handle.Segment(expert, handle.sources - 1).end);
    for (int source = 0; source < handle.sources; ++source) {
      const Range segment = handle.Segment(expert, source);
      for (int64_t r = segment.begin; r < segment.end; ++r) {
        const int32_t* row = received.data() + r * kWidth;
        EXPECT_EQ(row[0], source);
        EXPECT_EQ(row[1], dispatcher.local_experts().begin + expert);
        EXPECT_EQ(row[2], r - segment.begin);
      }
    }
  }
}

}  // namespace

void CheckDispatch(Communicator& ep, int64_t experts,
                   const std::function<int64_t(int rank, int64_t expert)>& rows, const Stream& stream) {
  StreamMemory memory(stream);
  Dispatcher dispatcher(ep, experts, stream);
  EXPECT_EQ(dispatcher.local_experts(), BlockOf(experts, ep.size(), ep.rank()));
  std::vector<int64_t> counts(experts);
  std::vector<int32_t> sent, expected;
  int64_t away = 0;  // rows to other ranks
  for (int64_t e = 0; e < experts; ++e) {
    counts[e] = rows(ep.rank(), e);
    if (BlockOwner(experts, ep.size(), e) != ep.rank()) away += counts[e];
    for (int64_t i = 0; i < counts[e]; ++i)
      Append({ep.rank(), static_cast<int32_t>(e), static_cast<int32_t>(i)}, sent);
  }
  const Range local = dispatcher.local_experts();
  for (int source = 0; source < ep.size(); ++source) {
    for (int64_t e = local.begin; e < local.end; ++e) {
      for (int64_t i = 0; i < rows(source, e); ++i) {
        Append({source, static_cast<int32_t>(e), static_cast<int32_t>(i)}, expected);
      }
    }
  }
  const DispatchHandle handle =
      dispatcher.Plan(Tensor::Of(memory.Put(counts), {experts}), static_cast<int64_t>(sent.size()) / kWidth);
  EXPECT_EQ(dispatcher.count_reads(), stream.device == Device::kCuda);
  EXPECT_EQ(handle.send_rows * kWidth, static_cast<int64_t>(sent.size()));
  EXPECT_EQ(handle.receive_rows * kWidth, static_cast<int64_t>(expected.size()));
  CheckRows(dispatcher, handle, sent, expected, memory, stream);
  const int64_t row_bytes = kWidth * int64_t{sizeof(int32_t)};
  EXPECT_EQ(dispatcher.bytes_sent().dispatch, away * row_bytes);
  EXPECT_EQ(dispatcher.bytes_sent().combine,
            (handle.receive_rows - handle.receive_rows_from[ep.rank()]) * row_bytes);
}

void CheckDispatchCases(Communicator& ep, const Stream& stream) {
  const auto check = [&](int64_t experts, const std::function<int64_t(int, int64_t)>& rows) {
    CheckDispatch(ep, experts, rows, stream);
  };
  for (int64_t experts : {1, 2, 7, 16}) {
    check(experts, [](int rank, int64_t e) { return (rank * 5 + e * 3) % 4; });
    check(experts, [](int, int64_t) { return 0; });
    check(experts, [&](int, int64_t e) { return e == experts - 1 ? 9 : 0; });
    check(experts, [](int rank, int64_t e) { return rank == 1 ? 0 : e + 1; });
    check(experts, [](int rank, int64_t e) { return rank == 0 && e == 0 ? 1 : 0; });
    check(experts, [](int rank, int64_t e) { return static_cast<int64_t>(RandomBits(11, rank, e) % 50); });
  }
}

}  // namespace jevons
