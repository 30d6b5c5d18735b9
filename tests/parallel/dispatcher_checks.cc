#include "tests/parallel/dispatcher_checks.h"

#include <algorithm>
#include <map>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/philox.h"
#include "parallel/mesh.h"
#include "tests/parallel/stream_memory.h"

namespace jevons {
namespace {

constexpr int64_t kWidth = 3;  // of a token's row: its rank, its number, and a byte pattern

std::vector<float> TokenRow(int rank, int64_t token) {
  return {static_cast<float>(rank), static_cast<float>(token),
          static_cast<float>(RandomBits(1, static_cast<uint64_t>(rank), static_cast<uint64_t>(token)) % 9999)};
}

float ValueOf(int rank, int64_t pair) {
  return static_cast<float>(RandomUniform(2, static_cast<uint64_t>(rank), static_cast<uint64_t>(pair)));
}

// What an expert makes of a token: numbers whose sum depends on its order.
template <typename T>
T ResultOf(int rank, int64_t token, int64_t expert, int64_t c) {
  const auto at = static_cast<uint64_t>((rank * 1000 + token) * kWidth + c);
  return T(static_cast<float>(RandomUniform(3, static_cast<uint64_t>(expert), at)) * (at % 3 == 0 ? 1e3f : 1.0f));
}

// y, bit by bit as contract 8 says: by groups, each rounded to T.
template <typename T>
std::vector<T> SumsOf(const Routing& routing, const std::vector<int32_t>& indices, int rank) {
  std::vector<T> y;
  const int64_t per_group = routing.experts / routing.groups;
  for (size_t t = 0; t < indices.size() / static_cast<size_t>(routing.slots); ++t) {
    for (int64_t c = 0; c < kWidth; ++c) {
      std::map<int64_t, float> groups;
      for (int64_t k = 0; k < routing.slots; ++k) {
        const int64_t expert = indices[t * static_cast<size_t>(routing.slots) + static_cast<size_t>(k)];
        const float result = ResultOf<T>(rank, static_cast<int64_t>(t), expert, c);
        const auto [group, first] = groups.try_emplace(expert / per_group, result);
        if (!first) group->second += result;
      }
      float sum = 0;
      for (bool first = true; const auto& [group, of_group] : groups) {
        sum = first ? float{T(of_group)} : sum + float{T(of_group)};
        first = false;
      }
      y.push_back(T(1.0f + sum));
    }
  }
  return y;
}

// By expert, then by source, then by token: the rows that this rank is to receive.
struct Expected {
  std::vector<float> rows, values;
  std::vector<std::pair<int, int64_t>> tokens;  // rank and number
};
Expected ExpectedAt(Range experts, const std::vector<std::vector<int32_t>>& indices, int64_t slots) {
  Expected expected;
  for (int64_t e = experts.begin; e < experts.end; ++e) {
    for (size_t rank = 0; rank < indices.size(); ++rank) {
      for (size_t p = 0; p < indices[rank].size(); ++p) {
        if (indices[rank][p] != e) continue;
        const int source = static_cast<int>(rank);
        const int64_t token = static_cast<int64_t>(p) / slots;
        const std::vector<float> row = TokenRow(source, token);
        expected.rows.insert(expected.rows.end(), row.begin(), row.end());
        expected.values.push_back(ValueOf(source, static_cast<int64_t>(p)));
        expected.tokens.emplace_back(source, token);
      }
    }
  }
  return expected;
}

// Results of type T and the values that came, back to their tokens, without a look at either.
template <typename T>
void CheckWayBack(Dispatcher& dispatcher, const DispatchHandle& handle, const Routing& routing,
                  const std::vector<int32_t>& indices, const Expected& there, const Tensor& values, int rank,
                  StreamMemory& memory, const OpContext& ops) {
  std::vector<T> results;
  for (int64_t e = 0; e < handle.local_experts; ++e)
    for (int64_t r = handle.Expert(e).begin; r < handle.Expert(e).end; ++r)
      for (int64_t c = 0; c < kWidth; ++c) {
        const auto& [source, token] = there.tokens[static_cast<size_t>(r)];
        results.push_back(ResultOf<T>(source, token, dispatcher.local_experts().begin + e, c));
      }
  const int64_t T_ = handle.indices.rows();
  T* y = memory.Put(std::vector<T>(static_cast<size_t>(T_ * kWidth), T(1.0f)));
  float* back = memory.Put(std::vector<float>(indices.size(), -1));
  RowTransfer transfer;
  dispatcher.BeginCombine(ops, handle, Tensor::Of(memory.Put(results), {handle.receive_rows, kWidth}), values, transfer);
  dispatcher.FinishCombine(ops, handle, transfer, Tensor::Of(y, {T_, kWidth}), Tensor::Of(back, {handle.send_rows, 1}));
  const std::vector<T> sums = memory.Get(y, static_cast<size_t>(T_ * kWidth)), expected = SumsOf<T>(routing, indices, rank);
  EXPECT_EQ(std::memcmp(sums.data(), expected.data(), sums.size() * sizeof(T)), 0);
  const std::vector<float> returned = memory.Get(back, indices.size());
  for (size_t p = 0; p < indices.size(); ++p) ASSERT_EQ(returned[p], ValueOf(rank, static_cast<int64_t>(p))) << p;
}

}  // namespace

void CheckDispatch(Communicator& ep, Dispatcher& dispatcher, const Routing& routing, const Stream& stream) {
  EXPECT_EQ(dispatcher.local_experts(), BlockOf(routing.experts, ep.size(), ep.rank()));
  StreamMemory memory(stream);
  Arena kept("kept", int64_t{1} << 22, stream.device), scratch("scratch", int64_t{1} << 24, stream.device);
  const OpContext ops{.stream = stream, .scratch = &scratch};
  std::vector<std::vector<int32_t>> all;
  for (int rank = 0; rank < ep.size(); ++rank) all.push_back(routing.indices(rank));
  const std::vector<int32_t>& indices = all[static_cast<size_t>(ep.rank())];
  const int64_t pairs = static_cast<int64_t>(indices.size()), tokens = pairs / routing.slots;
  std::vector<int64_t> counts(static_cast<size_t>(routing.experts));
  for (const int32_t e : indices) ++counts[static_cast<size_t>(e)];
  std::vector<float> x, values;
  for (int64_t t = 0; t < tokens; ++t)
    for (const float element : TokenRow(ep.rank(), t)) x.push_back(element);
  for (int64_t p = 0; p < pairs; ++p) values.push_back(ValueOf(ep.rank(), p));

  const int64_t reads = dispatcher.count_reads();
  dispatcher.BeginPlan(ops, Tensor::Of(memory.Put(indices), {tokens, routing.slots}),
                       Tensor::Of(memory.Put(counts), {routing.experts}), kept);
  const DispatchHandle handle = dispatcher.FinishPlan(kept);
  EXPECT_EQ(dispatcher.count_reads() - reads, stream.device == Device::kCuda);
  const Expected expected = ExpectedAt(dispatcher.local_experts(), all, routing.slots);
  ASSERT_EQ(handle.receive_rows, static_cast<int64_t>(expected.tokens.size()));
  for (int64_t e = 0; e < handle.local_experts; ++e) {
    EXPECT_EQ(handle.Expert(e).begin, handle.Segment(e, 0).begin);
    EXPECT_EQ(handle.Expert(e).end, handle.Segment(e, handle.sources - 1).end);
    for (int s = 0; s < handle.sources; ++s)
      for (int64_t r = handle.Segment(e, s).begin; r < handle.Segment(e, s).end; ++r)
        EXPECT_EQ(expected.tokens[static_cast<size_t>(r)].first, s);
  }

  // Two kinds of rows, and the values, as one transfer: FP32 and bytes.
  const Tensor from = Tensor::Of(memory.Put(x), {tokens, kWidth});
  const Tensor rows = Tensor::Of(memory.Put(std::vector<float>(expected.rows.size(), -1)), {handle.receive_rows, kWidth});
  const Tensor bytes(from.data, DType::kU8, {tokens, kWidth * 4});
  const Tensor byte_rows =
      Tensor(memory.Put(std::vector<float>(expected.rows.size(), -1)), DType::kU8, {handle.receive_rows, kWidth * 4});
  const Tensor row_values = Tensor::Of(memory.Put(std::vector<float>(expected.values.size(), -1)), {handle.receive_rows, 1});
  RowTransfer transfer;
  dispatcher.BeginDispatch(
      ops, handle,
      {.rows = {{from, rows}, {bytes, byte_rows}}, .values = {Tensor::Of(memory.Put(values), {pairs, 1}), row_values}}, transfer);
  dispatcher.FinishDispatch(ops, handle, transfer);
  EXPECT_EQ(memory.Get(rows.as<float>(), expected.rows.size()), expected.rows);
  EXPECT_EQ(memory.Get(static_cast<const float*>(byte_rows.data), expected.rows.size()), expected.rows);
  EXPECT_EQ(memory.Get(row_values.as<float>(), expected.values.size()), expected.values);
  CheckWayBack<float>(dispatcher, handle, routing, indices, expected, row_values, ep.rank(), memory, ops);
  CheckWayBack<bf16>(dispatcher, handle, routing, indices, expected, row_values, ep.rank(), memory, ops);
}

Routing OneSlot(int64_t experts, const std::function<int64_t(int rank, int64_t expert)>& rows) {
  return {.experts = experts, .indices = [experts, rows](int rank) {
            std::vector<int32_t> indices;
            for (int64_t e = 0; e < experts; ++e)
              indices.insert(indices.end(), static_cast<size_t>(rows(rank, e)), static_cast<int32_t>(e));
            return indices;
          }};
}

Routing Chosen(int64_t experts, int64_t groups, int64_t kept, int64_t slots, uint64_t seed,
               const std::function<int64_t(int rank)>& tokens) {
  const auto draw = [seed](std::vector<int32_t>& from, int64_t count, uint64_t at) {  // the first `count` become a sample
    for (int64_t i = 0; i < count; ++i)
      std::swap(
          from[static_cast<size_t>(i)],
          from[static_cast<size_t>(i) + RandomBits(seed, at, static_cast<uint64_t>(i)) % (from.size() - static_cast<size_t>(i))]);
    from.resize(static_cast<size_t>(count));
  };
  return {.experts = experts, .groups = groups, .slots = slots, .indices = [=](int rank) {
            std::vector<int32_t> indices;
            for (int64_t t = 0; t < tokens(rank); ++t) {
              const auto at = static_cast<uint64_t>(rank * 1'000'000 + t) * 2;
              std::vector<int32_t> chosen_groups, candidates;
              for (int64_t g = 0; g < groups; ++g) chosen_groups.push_back(static_cast<int32_t>(g));
              draw(chosen_groups, kept, at);
              for (const int32_t g : chosen_groups)
                for (int64_t e = 0; e < experts / groups; ++e)
                  candidates.push_back(static_cast<int32_t>(g * experts / groups + e));
              draw(candidates, slots, at + 1);
              indices.insert(indices.end(), candidates.begin(), candidates.end());
            }
            return indices;
          }};
}

void CheckDispatchCases(Communicator& ep, const Stream& stream) {
  const auto check = [&](const Routing& routing) {
    Dispatcher dispatcher(ep, {.experts = routing.experts, .groups = routing.groups}, {.stream = stream});
    CheckDispatch(ep, dispatcher, routing, stream);
  };
  for (int64_t experts : {1, 2, 7, 16}) {
    check(OneSlot(experts, [](int rank, int64_t e) { return (rank * 5 + e * 3) % 4; }));
    check(OneSlot(experts, [](int, int64_t) { return 0; }));
    check(OneSlot(experts, [&](int, int64_t e) { return e == experts - 1 ? 9 : 0; }));
    check(OneSlot(experts, [](int rank, int64_t e) { return rank == 1 ? 0 : e + 1; }));
    check(OneSlot(experts, [](int rank, int64_t e) { return rank == 0 && e == 0 ? 1 : 0; }));
    check(OneSlot(experts, [](int rank, int64_t e) { return static_cast<int64_t>(RandomBits(11, rank, e) % 50); }));
  }
  check(Chosen(12, 4, 2, 5, 7, [](int rank) { return rank % 3 * 8; }));
}

void CheckForwardedCases(Communicator& ep, const Stream& stream) {
  const int nodes = ep.size() % 2 == 0 ? 2 : ep.size();
  Mesh mesh(ep, {.world = ep.size(), .pp = 1, .ep = ep.size(), .ep_nodes = nodes, .forwards = true});
  for (const int64_t experts : {6, 18, 24}) {
    Dispatcher dispatcher({mesh.ep(), nodes, &mesh.ep_rail(), &mesh.ep_local()}, {.experts = experts, .groups = 6},
                          {.stream = stream});
    for (uint64_t seed = 0; seed < 4; ++seed)
      CheckDispatch(mesh.ep(), dispatcher, Chosen(experts, 6, 3, 3, seed, [](int rank) { return int64_t{rank % 3 * 8}; }),
                    stream);
  }
}

}  // namespace jevons
