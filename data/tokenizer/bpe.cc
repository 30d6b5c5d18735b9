#include "data/tokenizer/bpe.h"

#include <algorithm>
#include <limits>

#include "kernels/base/check.h"

namespace jevons {
namespace {

constexpr int32_t kGone = -1;

}  // namespace

void MergeLoop::Propose(const MergeRanks& ranks, int32_t position) {
  const int32_t next = position < 0 ? 0 : symbols_[position].next;
  if (position < 0 || next == static_cast<int32_t>(symbols_.size())) return;
  const int32_t left = symbols_[position].id;
  const int32_t right = symbols_[next].id;
  const MergeRanks::Rank* found = ranks.Find(left, right);
  if (found == nullptr) return;
  heap_.push_back({found->rank, position, {left, right, found->result}});
  std::push_heap(heap_.begin(), heap_.end(), Later);
}

void MergeLoop::Run(const MergeRanks& ranks, std::span<const int32_t> symbols, std::vector<int32_t>& out) {
  JEVONS_CHECK(symbols.size() <= size_t{std::numeric_limits<int32_t>::max()}, "a word of %zu bytes",
               symbols.size());
  const int32_t n = static_cast<int32_t>(symbols.size());
  symbols_.resize(symbols.size());
  heap_.clear();
  for (int32_t i = 0; i < n; ++i) symbols_[i] = {symbols[i], i - 1, i + 1};
  for (int32_t i = 0; i < n; ++i) Propose(ranks, i);
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), Later);
    const Candidate best = heap_.back();
    heap_.pop_back();
    // A candidate whose symbols have since grown is stale: a symbol only ever grows, so its id never comes
    // back.
    Symbol& left = symbols_[best.position];
    if (left.id != best.merge.left || left.next == n || symbols_[left.next].id != best.merge.right) continue;
    Symbol& right = symbols_[left.next];
    left.id = best.merge.result;
    left.next = right.next;
    if (right.next < n) symbols_[right.next].previous = best.position;
    right.id = kGone;
    Propose(ranks, left.previous);
    Propose(ranks, best.position);
  }
  for (int32_t i = 0; i < n; i = symbols_[i].next) out.push_back(symbols_[i].id);
}

}  // namespace jevons
