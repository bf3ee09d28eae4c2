// Light or dark: the system's choice until the button says otherwise; the choice is kept for the next visit.
// A classic script in the head, so that the right colours are there before the first paint.

{
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const saved = localStorage.getItem("portico.theme");
  if (saved === "light" || saved === "dark") root.dataset.theme = saved;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const tell = () => button.setAttribute("aria-pressed", String(isDark()));
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      localStorage.setItem("portico.theme", root.dataset.theme);
      tell();
    });
    system.addEventListener("change", tell);
    tell();
  });
}
