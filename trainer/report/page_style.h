// How a page looks: light, dark where the reader's system is, and on paper.
#ifndef JEVONS_TRAINER_REPORT_PAGE_STYLE_H_
#define JEVONS_TRAINER_REPORT_PAGE_STYLE_H_

#include <cstddef>

namespace jevons {

inline constexpr size_t kSeriesColors = 8;  // .s0 to .s7

// Colours of classes: load0 to load7 from no rows at all over too few and just right to too many; bias0 to bias6 from low over 0 to high;
// much0 to much5.
inline constexpr char kPageStyle[] = R"(
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#5b6570;--line:#d9dee3;--card:#f6f8fa;--mid:#eceff2;
--s0:#1f77b4;--s1:#d4542a;--s2:#2e8b57;--s3:#8a5cc2;--s4:#b8860b;--s5:#c2407f;--s6:#2a9d9d;--s7:#6b7280}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e4e8ec;--soft:#9aa5b1;--line:#343b43;--card:#1d2126;--mid:#2a3037;
--s0:#5aa9e6;--s1:#f08a5d;--s2:#5cc48d;--s3:#b794f0;--s4:#e0b84c;--s5:#f07ab0;--s6:#5fd0d0;--s7:#a0a8b3}}
@media print{:root{color-scheme:light}body{max-width:none;margin:0;font-size:10pt}figure,.tile,table,h2,h3{break-inside:avoid}h2,h3{break-after:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
*{box-sizing:border-box}
body{font:15px/1.45 system-ui,sans-serif;background:var(--bg);color:var(--fg);max-width:1320px;margin:0 auto;padding:16px}
h1{font-size:1.6em;margin:.2em 0}h2{font-size:1.25em;margin:1.8em 0 .6em;border-bottom:1px solid var(--line);padding-bottom:.2em}h3{font-size:1.05em;margin:1.2em 0 .4em}
h1,h2,h3,p,td,th,figcaption{overflow-wrap:anywhere}
p{margin:.4em 0;max-width:75ch}.soft,.legend{color:var(--soft)}
.grid2{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:14px;align-items:start}
figure{margin:0;padding:10px 8px 4px;background:var(--card);border-radius:6px;max-width:640px}figcaption{font-weight:600;padding:0 6px 4px}
svg{display:block;width:100%;height:auto}svg text{fill:var(--fg);font-size:11.5px}svg .grid,svg .tick{stroke:var(--line);stroke-width:1}
.line{fill:none;stroke-width:1.7;stroke-linejoin:round}.faint{opacity:.35;stroke-width:1}
.key{display:inline-flex;align-items:center;font-weight:400;font-size:.85em;margin-left:12px;color:var(--fg)}.key i{width:14px;height:3px;margin-right:5px;background:currentColor}
.key .swatch{width:12px;height:12px;margin-right:5px}figcaption .key{color:var(--fg)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px;margin:12px 0}.tile{background:var(--card);border-radius:6px;padding:8px 12px}
.tile b{display:block;font-size:1.25em}.tile span{color:var(--soft);font-size:.85em}
.scroll{overflow-x:auto;margin:.5em 0}table{border-collapse:collapse;font-size:.92em}td,th{padding:3px 12px 3px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;white-space:nowrap;overflow-wrap:normal}th{color:var(--soft);font-weight:600}tr.part th{padding-top:12px;color:var(--fg)}
.scroll.wide table{min-width:640px}.scroll.wide svg{min-width:760px}
.bar{display:inline-block;height:10px;background:var(--s0);border-radius:2px;min-width:1px}td.b{width:160px;min-width:100px;white-space:nowrap}
pre{background:var(--card);border-radius:6px;padding:10px;overflow-x:auto;font-size:.85em;white-space:pre-wrap;overflow-wrap:anywhere}
summary{cursor:pointer;color:var(--soft)}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}.s3{stroke:var(--s3)}.s4{stroke:var(--s4)}.s5{stroke:var(--s5)}.s6{stroke:var(--s6)}.s7{stroke:var(--s7)}
circle{stroke:none}circle.s0,.a0{fill:var(--s0)}circle.s1,.a1{fill:var(--s1)}circle.s2,.a2{fill:var(--s2)}circle.s3,.a3{fill:var(--s3)}circle.s4,.a4{fill:var(--s4)}circle.s5{fill:var(--s5)}circle.s6{fill:var(--s6)}circle.s7,.a5{fill:var(--s7)}
.key.s0 i{background:var(--s0)}.key.s1 i{background:var(--s1)}.key.s2 i{background:var(--s2)}.key.s3 i{background:var(--s3)}.key.s4 i{background:var(--s4)}.key.s5 i{background:var(--s5)}.key.s6 i{background:var(--s6)}.key.s7 i{background:var(--s7)}
.cell{shape-rendering:crispEdges}.load0{fill:var(--fg)}.load1,.bias0{fill:#2166ac}.load2,.bias1{fill:#67a9cf}.load3,.bias2{fill:#b5d3e6}.load4,.bias3{fill:var(--mid)}.load5,.bias4{fill:#f7c4a5}.load6,.bias5{fill:#ef8a62}.load7,.bias6{fill:#b2182b}
.much0{fill:var(--mid)}.much1{fill:#fbd9a0}.much2{fill:#f6b352}.much3{fill:#e07b39}.much4{fill:#b7410e}.much5{fill:#7a1f06}
)";

}  // namespace jevons

#endif  // JEVONS_TRAINER_REPORT_PAGE_STYLE_H_
