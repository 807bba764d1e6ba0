// Puts one table of data.js on the page; the buttons on top choose which.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const { jobs, version } = window.HDSTBENCH;

  const show = (number) => {
    const job = jobs[number];
    document.title = `${job.stem} – hdstbench report`;
    $("title").textContent = `${job.stem}: ${job.title}`;
    $("what").textContent = job.what;
    $("simulated").hidden = !job.simulated;
    $("command").textContent = job.command;
    $("made").textContent = `hdstbench ${version}. ${job.made}`;
    document.querySelectorAll("#jobs button").forEach((button, i) => {
      button.setAttribute("aria-pressed", String(i === number));
    });
    Report.table(job);
    Report.ranks(job);
    Report.costs(job);
    Report.genes(job);
    Report.maps(job);
  };

  jobs.forEach((job, i) => {
    const button = Report.element("button", job.stem, { type: "button" });
    button.addEventListener("click", () => show(i));
    $("jobs").append(button);
  });
  $("jobs").hidden = jobs.length < 2;
  Report.listen();
  show(0);
})();
