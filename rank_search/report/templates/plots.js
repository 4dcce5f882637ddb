"use strict";
// Figures of plotly in the place of pictures, in the colours of the page.

const byId = (id) => document.getElementById(id);
const figures = JSON.parse(byId("figures").textContent);
document.documentElement.classList.add("alive");

const CONFIG = { displayModeBar: false, responsive: true };
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function theme(layout) {
  const axis = { gridcolor: ink("--line"), linecolor: ink("--soft"), tickcolor: ink("--soft") };
  return { font: { color: ink("--ink") }, xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis } };
}

function draw(name) {
  const { data: traces, layout } = figures[name];
  const place = byId(name);
  const picture = place.querySelector("img");
  if (picture) Object.assign(place, { role: "group", ariaLabel: picture.alt });
  place.replaceChildren();
  const inked = JSON.parse(JSON.stringify(traces).replaceAll("#0072B2", ink("--searched"))); // too dark on black
  Plotly.newPlot(name, inked, { ...layout, ...theme(layout) }, CONFIG);
}
