#include "parallel/ep/dispatcher.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/ops/permute.h"

namespace jevons {
namespace {

std::vector<RowExchange::Peer> Peers(Communicator& ep, int nodes) {
  std::vector<RowExchange::Peer> peers;
  for (int r = 0; r < ep.size(); ++r) peers.push_back({r, r * nodes / ep.size() != ep.rank() * nodes / ep.size()});
  return peers;
}

std::vector<int64_t> Scaled(std::span<const int64_t> values, int64_t factor) {
  std::vector<int64_t> scaled(values.begin(), values.end());
  for (int64_t& value : scaled) value *= factor;
  return scaled;
}

// Calls part(first row as it arrives, rows by expert) for each segment that is not empty. Rows arrive and leave by source rank, then by
// local expert, then as the source sent them.
template <typename Function>
void ForSegments(const DispatchHandle& handle, Function part) {
  int64_t arrives = 0;
  for (int source = 0; source < handle.sources; ++source) {
    for (int64_t e = 0; e < handle.local_experts; ++e) {
      const Range rows = handle.Segment(e, source);
      if (!rows.empty()) part(arrives, rows);
      arrives += rows.size();
    }
  }
}

char* RowOf(const Tensor& tensor, int64_t row) {
  return static_cast<char*>(tensor.data) + row * tensor.cols() * SizeOf(tensor.dtype);
}

// What to copy so that rows as they arrive lie by expert, and the reverse.
void ByExpert(const DispatchHandle& handle, const Tensor& arrived, const Tensor& by_expert, std::vector<CopiedPart>& parts) {
  ForSegments(handle, [&](int64_t arrives, Range rows) {
    parts.push_back(
        {RowOf(arrived, arrives), RowOf(by_expert, rows.begin), rows.size() * by_expert.cols() * SizeOf(by_expert.dtype)});
  });
}
void BySource(const DispatchHandle& handle, const Tensor& by_expert, const Tensor& leaving, std::vector<CopiedPart>& parts) {
  ForSegments(handle, [&](int64_t leaves, Range rows) {
    parts.push_back(
        {RowOf(by_expert, rows.begin), RowOf(leaving, leaves), rows.size() * by_expert.cols() * SizeOf(by_expert.dtype)});
  });
}

}  // namespace

Dispatcher::Dispatcher(const EpGroups& groups, const RoutingShape& shape, const Options& options)
    : ep_(groups.ep),
      shape_(shape),
      nodes_(groups.nodes),
      stream_(options.stream),
      load_(options.load),
      local_(BlockOf(shape.experts, ep_.size(), ep_.rank())),
      flat_(ep_, Peers(ep_, groups.nodes), stream_, options.verify),
      host_counts_(std::make_unique<Staging>(stream_.device, shape.experts * static_cast<int64_t>(sizeof(int64_t)))),
      routing_is_there_(stream_.device) {
  JEVONS_CHECK(shape.experts > 0 && shape.experts % shape.groups == 0, "%lld experts in %lld groups",
               static_cast<long long>(shape.experts), static_cast<long long>(shape.groups));
  if (groups.rail == nullptr) return;
  const ForwardMap map{
      .experts = shape.experts, .groups = shape.groups, .nodes = groups.nodes, .locals = ep_.size() / groups.nodes};
  forwarding_ = std::make_unique<Forwarding>(map, ep_, *groups.rail, *groups.local, stream_, options.verify);
}

void Dispatcher::MoveInBackground() {
  ep_.MoveInBackground();
  if (forwarding_ != nullptr) forwarding_->MoveInBackground();
}

void Dispatcher::PlanByLoad(Arena& kept) {
  DispatchHandle& handle = planned_;
  const int ranks = ep_.size();
  const int64_t rows = handle.send_rows;
  const auto part_of = [rows, this](Range experts) {  // of the rows of one rank
    return rows * experts.end / shape_.experts - rows * experts.begin / shape_.experts;
  };
  for (int r = 0; r < ranks; ++r) handle.send_rows_to.push_back(part_of(BlockOf(shape_.experts, ranks, r)));
  // At most all of them; where one rank has all experts, no more and no less.
  const auto loaded = static_cast<int64_t>(std::ceil(load_ * static_cast<double>(ranks * part_of(local_))));
  const int64_t arriving = ranks == 1 ? rows : std::min(loaded, ranks * rows);
  const int64_t segments = local_.size() * ranks;
  for (int64_t i = 0; i <= segments; ++i) handle.segment_offsets.push_back(segments == 0 ? 0 : arriving * i / segments);
  handle.receive_rows_from.assign(static_cast<size_t>(ranks), 0);
  for (int64_t e = 0; e < local_.size(); ++e)
    for (int source = 0; source < ranks; ++source)
      handle.receive_rows_from[static_cast<size_t>(source)] += handle.Segment(e, source).size();
  handle.receive_rows = handle.segment_offsets.back();
  if (forwarding_ == nullptr) return;
  RoutingShape shape = shape_;
  shape.slots = handle.indices.cols();
  handle.forward = forwarding_->PlanByLoad(shape, handle.indices.rows(), handle.receive_rows, load_, kept);
}

void Dispatcher::BeginPlan(const OpContext& ops, const Tensor& indices, const Tensor& counts, Arena& kept) {
  JEVONS_CHECK(counts.size() == shape_.experts && counts.contiguous(), "counts %s for %lld experts", counts.ToString().c_str(),
               static_cast<long long>(shape_.experts));
  JEVONS_CHECK(!std::exchange(planning_, true), "a plan is under way");
  planned_ = {};
  planned_.indices = indices;
  planned_.send_rows = indices.size();
  planned_.local_experts = local_.size();
  planned_.sources = ep_.size();
  CopyBytes(stream_, counts.data, host_counts_->data(), counts.bytes());
  if (forwarding_ != nullptr) {
    if (host_indices_ == nullptr || host_indices_->bytes() < indices.bytes())
      host_indices_ = std::make_unique<Staging>(stream_.device, indices.bytes());
    CopyBytes(stream_, indices.data, host_indices_->data(), indices.bytes());
  }
  routing_is_there_.Record(stream_);
  if (stream_.device == Device::kCpu) BeginCounts();
  if (forwarding_ != nullptr) return;
  planned_.row_of = kept.Allocate("dispatch.row_of", DType::kI32, {indices.size()});
  planned_.pair_of = kept.Allocate("dispatch.pair_of", DType::kI32, {indices.size()});
  SortByExpert(ops, indices, counts, planned_.row_of, planned_.pair_of);
}

void Dispatcher::BeginCounts() {
  const std::span counts(static_cast<const int64_t*>(host_counts_->data()), static_cast<size_t>(shape_.experts));
  const int ranks = ep_.size();
  planned_.send_rows_to.resize(ranks);
  planned_.receive_rows_from.resize(ranks);
  std::vector<int64_t> send_counts(ranks);  // how many counts, not rows: those of the other rank's experts
  int64_t rows = 0;
  for (int r = 0; r < ranks; ++r) {
    const Range owned = BlockOf(shape_.experts, ranks, r);
    send_counts[r] = owned.size();
    for (int64_t e = owned.begin; e < owned.end; ++e) {
      JEVONS_CHECK(counts[e] >= 0, "%lld rows for expert %lld", static_cast<long long>(counts[e]), static_cast<long long>(e));
      planned_.send_rows_to[r] += counts[e];
    }
    rows += planned_.send_rows_to[r];
    const bool far = r * nodes_ / ranks != ep_.rank() * nodes_ / ranks;
    if (far) planned_.network_pairs += planned_.send_rows_to[r];
  }
  JEVONS_CHECK(rows == planned_.send_rows, "counts of %lld rows, where %lld are sent", static_cast<long long>(rows),
               static_cast<long long>(planned_.send_rows));
  if (forwarding_ != nullptr) {
    const auto* indices = static_cast<const int32_t*>(host_indices_->data());
    return forwarding_->BeginPlan({indices, static_cast<size_t>(planned_.indices.size())}, planned_.indices.cols());
  }
  received_.assign(ranks * local_.size(), 0);
  counts_request_ = ep_.BeginAllToAllV(std::as_bytes(counts), Scaled(send_counts, sizeof(int64_t)),
                                       std::as_writable_bytes(std::span(received_)),
                                       std::vector<int64_t>(ranks, local_.size() * static_cast<int64_t>(sizeof(int64_t))));
}

DispatchHandle Dispatcher::FinishPlan(Arena& kept) {
  JEVONS_CHECK(std::exchange(planning_, false), "no plan is under way");
  if (stream_.device == Device::kNone) {
    PlanByLoad(kept);
    return std::move(planned_);
  }
  if (stream_.device == Device::kCuda) {
    routing_is_there_.Synchronize();
    ++count_reads_;
    BeginCounts();
  }
  if (forwarding_ != nullptr) {
    planned_.forward = forwarding_->FinishPlan(kept, planned_.segment_offsets);
  } else {
    ep_.Wait(counts_request_);
    planned_.segment_offsets.push_back(0);
    for (int64_t e = 0; e < local_.size(); ++e)
      for (int source = 0; source < planned_.sources; ++source)
        planned_.segment_offsets.push_back(planned_.segment_offsets.back() + received_[source * local_.size() + e]);
  }
  for (int64_t e = 0; e < local_.size(); ++e)
    for (int source = 0; source < planned_.sources; ++source)
      planned_.receive_rows_from[source] += planned_.Segment(e, source).size();
  planned_.receive_rows = planned_.segment_offsets.back();
  return std::move(planned_);
}

void Dispatcher::BeginDispatch(const OpContext& ops, const DispatchHandle& handle, const Dispatched& what,
                               RowTransfer& transfer) {
  transfer = {};
  for (const auto& [from, to] : what.rows)
    JEVONS_CHECK(from.rows() == handle.indices.rows() && to.rows() == handle.receive_rows && from.contiguous() && to.contiguous(),
                 "dispatch %s -> %s", from.ToString().c_str(), to.ToString().c_str());
  traffic_.tokens += handle.indices.rows();
  traffic_.network_pairs += handle.network_pairs;
  if (forwarding_ != nullptr) return forwarding_->BeginDispatch(ops, handle.forward, what, traffic_, transfer.forward);
  std::vector<RowExchange::Move> moves;
  const auto begin = [&](const Dispatched::Rows& rows, int64_t slots) {
    const auto& [from, to] = rows;
    if (ep_.size() == 1) return GatherRows(ops, from, handle.pair_of, slots, to);
    const Tensor sorted = ops.scratch->Allocate("dispatch.sorted", from.dtype, {handle.send_rows, from.cols()});
    GatherRows(ops, from, handle.pair_of, slots, sorted);
    const Tensor arrived = arrives_by_expert() ? to : ops.scratch->Allocate("dispatch.arrived", to.dtype, to.shape);
    if (!arrives_by_expert()) ByExpert(handle, arrived, to, transfer.by_expert);
    moves.push_back({sorted, arrived, handle.send_rows_to, handle.receive_rows_from});
  };
  for (const Dispatched::Rows& rows : what.rows) begin(rows, handle.indices.cols());
  if (what.values.from) begin(what.values, 1);
  if (!moves.empty()) transfer.request = flat_.Begin(moves, traffic_.dispatch);
}

void Dispatcher::FinishDispatch(const OpContext& ops, const DispatchHandle& handle, RowTransfer& transfer) {
  if (forwarding_ != nullptr) return forwarding_->FinishDispatch(ops, handle.forward, traffic_, transfer.forward);
  if (ep_.size() > 1) flat_.Finish(transfer.request);
  CopyParts(ops, transfer.by_expert);
}

void Dispatcher::BeginCombine(const OpContext& ops, const DispatchHandle& handle, const Tensor& rows, const Tensor& values,
                              RowTransfer& transfer) {
  transfer = {.rows = rows, .values = values};
  JEVONS_CHECK(rows.rows() == handle.receive_rows && rows.contiguous(), "combine of %s", rows.ToString().c_str());
  if (forwarding_ != nullptr) return forwarding_->BeginCombine(ops, handle.forward, rows, values, traffic_, transfer.forward);
  if (ep_.size() == 1) return;
  std::vector<CopiedPart> parts;
  std::vector<RowExchange::Move> moves;
  for (Tensor* back : {&transfer.rows, &transfer.values}) {
    if (!*back) continue;
    Tensor leaving = *back;
    if (!arrives_by_expert()) {
      leaving = ops.scratch->Allocate("dispatch.leaving", back->dtype, back->shape);
      BySource(handle, *back, leaving, parts);
    }
    *back = ops.scratch->Allocate("dispatch.returned", back->dtype, {handle.send_rows, back->cols()});
    moves.push_back({leaving, *back, handle.receive_rows_from, handle.send_rows_to});
  }
  CopyParts(ops, parts);
  transfer.request = flat_.Begin(moves, traffic_.combine);
}

void Dispatcher::FinishCombine(const OpContext& ops, const DispatchHandle& handle, RowTransfer& transfer, const Tensor& y,
                               const Tensor& values) {
  if (forwarding_ != nullptr) return forwarding_->FinishCombine(ops, handle.forward, traffic_, transfer.forward, y, values);
  if (ep_.size() > 1) flat_.Finish(transfer.request);
  SumRowsByGroup(ops, transfer.rows, handle.row_of, handle.indices, shape_.experts / shape_.groups, y, WriteMode::kAdd);
  if (values) SumRows(ops, transfer.values, handle.row_of, 1, values, WriteMode::kOverwrite);
}

void Dispatcher::Advance(const OpContext& ops, const DispatchHandle& handle, RowTransfer& transfer) {
  if (forwarding_ != nullptr) forwarding_->Advance(ops, handle.forward, traffic_, transfer.forward);
}

}  // namespace jevons
