// The views of needle_lab read light or dark from the attribute that JupyterLab sets; here the theme button decides.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const tell = () => {
    const theme = document.body.dataset.theme;
    document.body.dataset.jpThemeLight = String(theme === "light" || (theme !== "dark" && !dark.matches));
  };
  document.addEventListener("DOMContentLoaded", () => {
    tell();
    dark.addEventListener("change", tell);
    new MutationObserver(tell).observe(document.body, {attributeFilter: ["data-theme"]});
  });
})();
