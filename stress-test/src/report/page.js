// Draws each figure in the colours of the page's theme: `?theme=dark` or `light`, else what the reader's system prefers.
const system = matchMedia("(prefers-color-scheme: dark)");
const wanted = new URLSearchParams(location.search).get("theme");

function draw() {
  const root = document.documentElement;
  root.dataset.theme = wanted ?? (system.matches ? "dark" : "light");
  const color = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  for (const plot of document.querySelectorAll(".plot")) {
    const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
    const axis = { gridcolor: color("--line"), zerolinecolor: color("--line"), linecolor: color("--line") };
    Plotly.react(plot, data, {
      ...layout,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("--faint") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--ink") } },
      xaxis: { ...layout.xaxis, ...axis },
      yaxis: { ...layout.yaxis, ...axis },
    }, { displayModeBar: false, responsive: true });
  }
}

system.addEventListener("change", draw);
draw();
