const drawAll = () => Object.keys(figures).forEach(draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();
