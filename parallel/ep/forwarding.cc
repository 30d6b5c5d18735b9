#include "parallel/ep/forwarding.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/ops/permute.h"

namespace jevons {
namespace {

std::vector<RowExchange::Peer> Rail(const ForwardMap& map, int rank) {
  std::vector<RowExchange::Peer> peers;
  for (int node = 0; node < map.nodes; ++node) peers.push_back({map.RankAt(node, rank % map.locals), node != rank / map.locals});
  return peers;
}
std::vector<RowExchange::Peer> Local(const ForwardMap& map, int rank) {
  std::vector<RowExchange::Peer> peers;
  for (int local = 0; local < map.locals; ++local) peers.push_back({map.RankAt(rank / map.locals, local), false});
  return peers;
}

// The lists of a handle, and those of a plan, in one order.
std::vector<Tensor*> ListsOf(ForwardHandle& h) {
  return {&h.rail_tokens, &h.rail_pairs,   &h.returned_pairs, &h.returned_groups, &h.token_offsets,
          &h.local_rows,  &h.local_pairs,  &h.back_pairs,     &h.group_units,     &h.group_offsets,
          &h.expert_rows, &h.expert_pairs, &h.unit_rows,      &h.unit_offsets};
}
std::vector<const std::vector<int32_t>*> ListsOf(const ForwardLists& l) {
  return {&l.rail_tokens, &l.rail_pairs,   &l.returned_pairs, &l.returned_groups, &l.token_offsets,
          &l.local_rows,  &l.local_pairs,  &l.back_pairs,     &l.group_units,     &l.group_offsets,
          &l.expert_rows, &l.expert_pairs, &l.unit_rows,      &l.unit_offsets};
}

}  // namespace

struct Forwarding::Hop {
  RowExchange& exchange;
  const char* name;
  std::span<const int64_t> rows_to, rows_from, values_to, values_from;
  const Tensor& row_list;
  const Tensor& value_list;
  const Tensor* offsets = nullptr;  // of sums; none: rows are picked
};

Forwarding::Forwarding(const ForwardMap& map, Communicator& ep, Communicator& rail, Communicator& local, const Stream& stream,
                       bool verify)
    : map_(map),
      ep_(ep),
      stream_(stream),
      rail_(rail, Rail(map, ep.rank()), stream, verify),
      local_(local, Local(map, ep.rank()), stream, verify) {
  JEVONS_CHECK(map.ranks() == ep.size() && map.NodesHaveWholeGroups(), "%d nodes of %d ranks for %lld groups on %d ranks",
               map.nodes, map.locals, static_cast<long long>(map.groups), ep.size());
}

void Forwarding::MoveInBackground() {
  rail_.group().MoveInBackground();
  local_.group().MoveInBackground();
}

void Forwarding::BeginPlan(std::span<const int32_t> indices, int64_t slots) {
  source_.emplace(map_, ep_.rank(), indices, slots);
  const auto ranks = static_cast<size_t>(map_.ranks());
  numbers_sent_.clear();
  for (int r = 0; r < map_.ranks(); ++r)
    for (const int64_t number : source_->NumbersFor(r)) numbers_sent_.push_back(number);
  numbers_.assign(numbers_sent_.size(), 0);
  number_bytes_.assign(ranks, ForwardSource::kNumbers * static_cast<int64_t>(sizeof(int64_t)));
  numbers_request_ = ep_.BeginAllToAllV(std::as_bytes(std::span(numbers_sent_)), number_bytes_,
                                        std::as_writable_bytes(std::span(numbers_)), number_bytes_);
}

ForwardHandle Forwarding::FinishPlan(Arena& kept, std::vector<int64_t>& segment_offsets) {
  const auto ranks = static_cast<size_t>(map_.ranks());
  ep_.Wait(numbers_request_);
  std::vector<int32_t> sent, received;
  std::vector<int64_t> sent_bytes, received_bytes;
  int64_t total = 0;
  for (size_t r = 0; r < ranks; ++r) {
    const std::vector<int32_t> list = source_->ListFor(static_cast<int>(r));
    sent.insert(sent.end(), list.begin(), list.end());
    sent_bytes.push_back(static_cast<int64_t>(list.size() * sizeof(int32_t)));
    const int64_t size = Flow::Sum(std::span(numbers_).subspan(r * ForwardSource::kNumbers, ForwardSource::kNumbers));
    received_bytes.push_back(size * static_cast<int64_t>(sizeof(int32_t)));
    total += size;
  }
  received.resize(static_cast<size_t>(total));
  ep_.Wait(ep_.BeginAllToAllV(std::as_bytes(std::span(sent)), sent_bytes, std::as_writable_bytes(std::span(received)),
                              received_bytes));
  ForwardPlan plan = source_->Plan(numbers_, received);
  segment_offsets = std::move(plan.segment_offsets);

  ForwardHandle handle = Place(plan.flows, source_->tokens(), segment_offsets.back(), kept);
  const std::vector<Tensor*> places = ListsOf(handle);
  const std::vector<const std::vector<int32_t>*> lists = ListsOf(plan.lists);
  int64_t bytes = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    JEVONS_CHECK(places[i]->size() == static_cast<int64_t>(lists[i]->size()), "list %zu of %zu, planned %lld", i,
                 lists[i]->size(), static_cast<long long>(places[i]->size()));
    bytes += places[i]->bytes();
  }
  // The device has read what lay here: the host has waited since for what the stream was given later, the routing of this plan.
  if (staging_ == nullptr || staging_->bytes() < bytes) staging_ = std::make_unique<Staging>(stream_.device, bytes);
  auto* next = static_cast<std::byte*>(staging_->data());
  for (size_t i = 0; i < places.size(); ++i) {
    if (places[i]->bytes() == 0) continue;
    std::memcpy(next, lists[i]->data(), static_cast<size_t>(places[i]->bytes()));
    CopyBytes(stream_, next, places[i]->data, places[i]->bytes());
    next += places[i]->bytes();
  }
  return handle;
}

ForwardHandle Forwarding::PlanByLoad(const RoutingShape& shape, int64_t tokens, int64_t arriving, double load,
                                     Arena& kept) const {
  return Place(ExpectedFlows(shape, map_, ep_.rank(), tokens, arriving, load), tokens, arriving, kept);
}

ForwardHandle Forwarding::Place(const ForwardFlows& flows, int64_t tokens, int64_t arriving, Arena& kept) const {
  ForwardHandle handle;
  handle.flows = flows;
  const int64_t sizes[] = {flows.rail_rows.sent(),
                           flows.rail_pairs.sent(),
                           flows.rail_pairs.sent(),
                           flows.rail_groups.received(),
                           tokens + 1,
                           flows.local_rows.sent(),
                           flows.local_pairs.sent(),
                           flows.rail_pairs.received(),
                           flows.local_units.received(),
                           flows.rail_groups.sent() + 1,
                           arriving,
                           arriving,
                           arriving,
                           flows.local_units.sent() + 1};
  const int64_t* size = sizes;
  for (Tensor* list : ListsOf(handle)) *list = kept.Allocate("dispatch.lists", DType::kI32, {*size++});
  return handle;
}

void Forwarding::Send(const OpContext& ops, const Hop& hop, std::span<const Tensor> rows, const Tensor& values,
                      LinkTraffic& traffic, ForwardTransfer& transfer) {
  std::vector<RowExchange::Move> moves;
  std::vector<Tensor> arriving;
  const auto move = [&](const Tensor& from, const Tensor& list, const Tensor* offsets, std::span<const int64_t> to_each,
                        std::span<const int64_t> from_each) {
    const Tensor receive = ops.scratch->Allocate(hop.name, from.dtype, {Flow::Sum(from_each), from.cols()});
    // What stays is copied from place to place; in a group of one that is all, and need not be.
    const Tensor send =
        to_each.size() == 1 ? receive : ops.scratch->Allocate(hop.name, from.dtype, {Flow::Sum(to_each), from.cols()});
    if (offsets != nullptr)
      SumSegments(ops, from, list, *offsets, send, WriteMode::kOverwrite);
    else
      GatherRows(ops, from, list, 1, send);
    moves.push_back({send, receive, to_each, from_each});
    return receive;
  };
  for (const Tensor& from : rows) arriving.push_back(move(from, hop.row_list, hop.offsets, hop.rows_to, hop.rows_from));
  if (values) transfer.values = move(values, hop.value_list, nullptr, hop.values_to, hop.values_from);
  transfer.rows = std::move(arriving);
  transfer.request = hop.exchange.Begin(moves, traffic);
}

void Forwarding::BeginDispatch(const OpContext& ops, const ForwardHandle& handle, const Dispatched& what, Traffic& traffic,
                               ForwardTransfer& transfer) {
  const ForwardFlows& flows = handle.flows;
  transfer = {.what = what};
  std::vector<Tensor> rows;
  for (const Dispatched::Rows& kind : what.rows) rows.push_back(kind.from);
  Send(ops,
       {rail_, "dispatch.rail", flows.rail_rows.to, flows.rail_rows.from, flows.rail_pairs.to, flows.rail_pairs.from,
        handle.rail_tokens, handle.rail_pairs},
       rows, what.values.from, traffic.dispatch, transfer);
}

void Forwarding::BeginCombine(const OpContext& ops, const ForwardHandle& handle, const Tensor& rows, const Tensor& values,
                              Traffic& traffic, ForwardTransfer& transfer) {
  const ForwardFlows& flows = handle.flows;
  transfer = {.what = {}, .back = true};
  Send(ops,
       {local_, "dispatch.local_back", flows.local_units.to, flows.local_units.from, flows.local_pairs.from, flows.local_pairs.to,
        handle.unit_rows, handle.unit_rows, &handle.unit_offsets},
       {&rows, 1}, values, traffic.combine, transfer);
}

void Forwarding::Advance(const OpContext& ops, const ForwardHandle& handle, Traffic& traffic, ForwardTransfer& transfer) {
  if (std::exchange(transfer.hop, 1) == 1) return;
  const ForwardFlows& flows = handle.flows;
  (transfer.back ? local_ : rail_).Finish(transfer.request);
  const std::vector<Tensor> rows = std::move(transfer.rows);
  const Tensor values = transfer.values;
  if (transfer.back) {
    Send(ops,
         {rail_, "dispatch.rail_back", flows.rail_groups.to, flows.rail_groups.from, flows.rail_pairs.from, flows.rail_pairs.to,
          handle.group_units, handle.back_pairs, &handle.group_offsets},
         rows, values, traffic.combine, transfer);
  } else {
    Send(ops,
         {local_, "dispatch.local", flows.local_rows.to, flows.local_rows.from, flows.local_pairs.to, flows.local_pairs.from,
          handle.local_rows, handle.local_pairs},
         rows, values, traffic.dispatch, transfer);
  }
}

void Forwarding::FinishDispatch(const OpContext& ops, const ForwardHandle& handle, Traffic& traffic, ForwardTransfer& transfer) {
  Advance(ops, handle, traffic, transfer);
  local_.Finish(transfer.request);
  for (size_t i = 0; i < transfer.rows.size(); ++i)
    GatherRows(ops, transfer.rows[i], handle.expert_rows, 1, transfer.what.rows[i].by_expert);
  if (transfer.values) GatherRows(ops, transfer.values, handle.expert_pairs, 1, transfer.what.values.by_expert);
}

void Forwarding::FinishCombine(const OpContext& ops, const ForwardHandle& handle, Traffic& traffic, ForwardTransfer& transfer,
                               const Tensor& y, const Tensor& values) {
  Advance(ops, handle, traffic, transfer);
  rail_.Finish(transfer.request);
  SumSegments(ops, transfer.rows[0], handle.returned_groups, handle.token_offsets, y, WriteMode::kAdd);
  if (values) GatherRows(ops, transfer.values, handle.returned_pairs, 1, values);
}

}  // namespace jevons
